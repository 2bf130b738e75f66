"""The demo's drawings: the same at every run, captioned, and enough for verdicts."""

import csv
import importlib.util
from pathlib import Path

import pytest

import clipsearch
from clipsearch.types import Verdict

FILE = Path(__file__).parents[2] / "scripts" / "draw_demo_pictures.py"


@pytest.fixture(scope="module")
def drawing():
    spec = importlib.util.spec_from_file_location("draw_demo_pictures", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_drawing_has_a_caption_and_two_runs_draw_the_same(drawing, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(drawing, "COLOURS", {"red": drawing.COLOURS["red"]})
    for run in ("a", "b"):
        drawing.main(tmp_path / run, tmp_path / f"{run}.csv")
    assert "20 drawings" in capsys.readouterr().out
    files = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()}
    with open(tmp_path / "a.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["image"] for row in rows} == set(files)
    assert all(row["image"].split("-")[1] in row["caption"] and "red" in row["caption"] for row in rows)


@pytest.mark.slow
def test_the_demo_shows_a_match_and_a_none(drawing, tmp_path):
    """About 25 s: 200 drawings go through the image tower."""
    drawing.main(tmp_path / "drawings", tmp_path / "captions.csv")
    with clipsearch.create(tmp_path / "demo", model="mini") as demo:
        demo.index(tmp_path / "drawings", captions=tmp_path / "captions.csv", workers=1)
        found = demo.search("a red balloon", k=2)
        assert found.verdict == Verdict.MATCH
        assert {Path(hit.path).name for hit in found} == {"red-balloon-1.jpg", "red-balloon-2.jpg"}
        for absent in ("two dogs playing in the snow", "a football player tackling another player"):
            assert demo.search(absent).verdict == Verdict.NONE
