"""A whole run of the smoke suite, every contender in this environment."""

import json
from pathlib import Path

import pytest

from benchmarks.build import build, read_record
from benchmarks.contenders.clipsearch import count_calls
from benchmarks.prepare import prepare
from benchmarks.run import main
from benchmarks.suite import Entry

SMOKE = str(Path(__file__).parents[3] / "benchmarks" / "suites" / "smoke.toml")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("faiss", reason="faiss is not installed")
    return tmp_path_factory.mktemp("smoke")


def run(folder, *more):
    places = {"--envs": "current", "--cache": folder / "cache", "--build": folder / "build", "--out": folder / "out"}
    return main([SMOKE, *more, *(str(part) for place in places.items() for part in place)])


def lines_of(folder):
    return [json.loads(line) for line in (folder / "out" / "smoke.jsonl").read_text().splitlines()]


def test_a_run_measures_every_point_of_every_contender(folder):
    assert run(folder) == 0
    lines = lines_of(folder)
    ours = [line for line in lines if line["contender"] == "clipsearch"]
    exact = [line for line in lines if line["label"] in ("numpy", "faiss Flat")]
    assert len(lines) == 3 * 2 + 2 * 2 + 1 + 1
    assert {line["recall"] for line in exact} == {1.0}
    assert all(0.6 < line["recall"] <= 1 and line["p50_ms"] > 0 and line["qps"] > 0 for line in lines)
    assert all(abs(line["recall"] - line["recall_single"]) < 0.05 for line in lines)
    assert all(0 < line["own_share"] < 1 and line["inside_p50_ms"] > 0 for line in ours)
    assert all(line["hot_bytes_per_vector"] + line["rows_bytes_per_vector"] > 0 for line in lines)
    assert [line["settings"]["nprobe"] > 0 for line in ours if not line["search"]] == [True, True]
    assert "| clipsearch ivfpq |" in (folder / "out" / "smoke.md").read_text()


def test_what_is_done_is_not_done_again(folder):
    before = lines_of(folder)
    assert run(folder) == 0
    assert lines_of(folder) == before


def test_a_build_that_takes_too_long_is_given_up_and_remembered(folder):
    dataset = prepare({"kind": "synthetic", "n": 20_000, "dim": 64}, str(folder / "cache"))
    entry = Entry("slow", "faiss", {"key": "IVF256,PQ16"}, cap_cpu_s=0.3)
    record = build(entry, dataset, str(folder / "slow"), "current", 1)
    assert "given up" in record["error"]
    assert read_record(str(folder / "slow" / dataset.name / entry.folder)) == record


def test_a_contender_that_fails_leaves_its_own_words(folder):
    dataset = prepare({"kind": "synthetic", "n": 20_000, "dim": 64}, str(folder / "cache"))
    record = build(Entry("bad", "faiss", {"key": "IVF0,Nonsense"}), dataset, str(folder / "bad"), "current", 1)
    assert "Nonsense" in record["error"] or "factory" in record["error"] or "index" in record["error"].lower()


def test_a_call_within_a_call_of_the_library_counts_once():
    class Inner:
        def search(self):
            return 1

    class Outer:
        def search(self):
            return Inner().search() + 1

    library = type("library", (), {"Inner": Inner, "Outer": Outer})
    total = [0.0]
    count_calls(library, total)
    assert Outer().search() == 2
    first = total[0]
    assert first > 0
    assert Inner().search() == 1
    assert total[0] > first
