"""A collection that grows to four times what its index was trained with, by pictures of another kind."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import test_build
from synthetic import Synthetic
from test_build import Model

from clipsearch.flows import drift, index_files, measuring
from clipsearch.index.base import Effort

pytest.importorskip("faiss", reason="faiss is not installed")

DIM = 64
FIRST = Synthetic(20_000, DIM, clusters=300, topics=30)
LATER = Synthetic(60_000, DIM, seed=9, clusters=150, topics=4)  # other concepts, in few topics: into few lists
LITTLE = Effort(nprobe=4, refine_factor=10)  # settings that stay the same, so that what the lists find shows


def recall(model, xq, effort=LITTLE):
    """Return recall@10 of the index itself at fixed settings."""
    _, wanted = model.best(xq, 10)
    index = model.collection._current().index("images", threading.RLock())
    found = index.search(xq, 10, effort=effort)
    return float((found.scores >= wanted[:, -1:] - 1e-6).mean())


@pytest.mark.slow
def test_growth_by_other_pictures_is_seen_proposed_and_repaired(tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "QUERIES", {"text": 120, "image": 60})
    n, queries = 5000, LATER.text_queries(200)
    monkeypatch.setattr(test_build, "DATA", FIRST)
    model = Model(tmp_path / "photos", n, captions=60)
    model.collection.build_index("ivfpq")
    record = index_files.read_record(model.collection.path)
    assert model.collection.status().index.advice is None

    monkeypatch.setattr(test_build, "DATA", LATER)
    asked = []
    for _ in range(6):  # to four times as many, in updates
        model.add(n // 2)
        report = model.collection.build_index()
        assert report.action == "extended", report.line
        asked.append(model.collection.status().index.advice)
    grown = index_files.read_record(model.collection.path)
    drifted = recall(model, queries)
    seen = f"imbalance {record.imbalance_trained} -> {grown.imbalance}; advice after each update: {asked}"
    assert grown.trained == record.trained and grown.rows == 4 * n
    assert grown.imbalance > 1.5 * record.imbalance_trained, seen
    assert all(text and "recall of text queries fell" in text and "--retrain" in text for text in asked), seen
    snapshot = model.collection._current().snapshot
    unmeasured = replace(grown, measured={}, trained_rows=grown.rows)
    assert "lists have become uneven" in str(drift.advice(snapshot, unmeasured)), "watched by itself too"

    assert model.collection.build_index(retrain=True).action == "built"
    again = index_files.read_record(model.collection.path)
    repaired = recall(model, queries)
    figures = f"{seen}; recall {drifted:.3f} -> {repaired:.3f}, imbalance {again.imbalance}, nlist {again.recipe.nlist}"
    assert model.collection.status().index.advice is None, figures
    assert again.imbalance < grown.imbalance, figures
    assert again.recipe.nlist > record.recipe.nlist, figures
    before, after = grown.measured["text"].recall, again.measured["text"].recall
    figures = f"{figures}; measured at the best settings {before:.3f} -> {after:.3f}"
    assert after >= record.measured["text"].recall - 0.08 and after > before + 0.2, figures
    assert repaired > drifted, figures
    work = [_compared(model_record, LITTLE.nprobe) for model_record in (grown, again)]
    assert work[1] < work[0] / 2, f"{figures}; rows compared a query {work[0]:.0f} -> {work[1]:.0f}"
    print(f"{figures}; rows compared a query {np.round(work)}")


def _compared(record, nprobe):
    """Rows that a query is compared with, if it lies where the rows do."""
    return nprobe * record.rows / record.recipe.nlist * record.imbalance
