"""``clipsearch augment`` and ``search --explain``: what is printed where."""

import json

import pytest
from planted import DIM, PLACES, PlantedEncoder, noise, planted, text_of, unit

from clipsearch.cli.search import _emptied
from clipsearch.present import explained


class Clear(PlantedEncoder):
    """Pictures are near their captions."""

    def picture(self, number, copy):
        return unit(self._text(text_of("sentence", number, f"{PLACES[copy % len(PLACES)]}{copy}")) + noise(f"{copy}"))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    planted(home / "photos", Clear(), concepts=range(10), copies=12)
    return home


def test_show_says_how_to_measure_where_nothing_was_measured(tmp_path, capsys):
    from clipsearch.cli import run

    planted(tmp_path / "photos", Clear(), concepts=range(2), copies=2)
    assert run(["augment", "show", "--indexes-dir", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert not captured.out and "clipsearch augment fit" in captured.err


def test_fit_prints_a_row_a_rung_and_show_the_same(home, capsys):
    from clipsearch.cli import run

    assert run(["augment", "fit", "--indexes-dir", str(home)]) == 0
    captured = capsys.readouterr()
    rows = [line.split("\t") for line in captured.out.splitlines()]
    assert rows[0] == ["rung", "on", "weight", "R@10", "R@1", "MRR", "alone"]
    assert [row[0] for row in rows[1:]] == ["hubs", "knn", "ridge", "prior"]
    assert "120 held-back captions" in captured.err
    assert run(["augment", "show", "--indexes-dir", str(home)]) == 0
    assert capsys.readouterr().out == captured.out


def test_json_has_the_evidence(home, capsys):
    from clipsearch.cli import run

    run(["augment", "fit", "--indexes-dir", str(home), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "clipsearch.augment/1" and found["pairs"] == 120
    assert all(rung["on"] == (rung["r10"]["low"] > 0) for rung in found["trial"]["rungs"])


def test_pictures_for_queries_are_measured_where_they_are_named_and_shown_below_the_rest(home, capsys, monkeypatch):
    from planted_generator import Instant, Noise

    from clipsearch.cli import run
    from clipsearch.collection import Collection

    drawn = Instant(Noise)
    monkeypatch.setattr(Collection, "generate", lambda _, *given, **how: drawn(*given, **how))
    monkeypatch.setattr(Collection, "encoder", Clear())
    where = ["--indexes-dir", str(home)]
    run(["augment", "fit", *where, "--rung", "hubs"])
    before = capsys.readouterr().out.splitlines()
    assert run(["augment", "fit", *where, "--rung", "imagined", "--generator", "gradient", "--samples", "60"]) == 0
    captured = capsys.readouterr()
    rows = captured.out.splitlines()
    assert rows[:-1] == before and rows[-1].split("\t")[:2] == ["imagined", "no"] and len(drawn.asked) == 60
    assert "gradient draws for 58 captions, about " in captured.err
    assert (
        "imagined: 60 captions; gradient drew 60, 0 did not show the caption; used by search --imagine" in captured.err
    )
    assert run(["search", "concept01 northfield0", *where, "--imagine", "--files"]) == 0
    captured = capsys.readouterr()
    assert "imagined: off for want of evidence: R@10" in captured.err and len(drawn.asked) == 60
    run(["search", "concept01 northfield0", *where, "--imagine-anyway", "--explain", "--json"])
    captured = capsys.readouterr()
    assert len(drawn.asked) == 61 and "by a picture that gradient drew; R@10" in captured.err
    assert "imagined" in json.loads(captured.out.splitlines()[0])["terms"]
    assert json.loads(captured.out.splitlines()[-1])["notes"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--samples", "100"], "go with --rung imagined"),
        (["--generator", "mini", "--rung", "hubs"], "go with --rung imagined"),
        (["--rung", "imagind"], "Did you mean 'imagined'"),
        (["--rung", "imagined", "--samples", "7"], "7 is not in the range"),
        (["--rung", "imagined", "--generator", "minni"], "Did you mean 'mini'"),
    ],
)
def test_what_cannot_be_measured_is_refused(home, capsys, arguments, why):
    from clipsearch.cli import run

    assert run(["augment", "fit", "--indexes-dir", str(home), *arguments]) == 2
    assert why in capsys.readouterr().err


def test_off_says_whether_anything_was_on(home, capsys):
    from clipsearch.cli import run

    run(["augment", "off", "--indexes-dir", str(home)])
    run(["augment", "off", "--indexes-dir", str(home)])
    assert "no rung was on" in capsys.readouterr().err


def test_too_few_captions_end_with_two_lines_and_code_2(tmp_path, capsys):
    from clipsearch.cli import run

    planted(tmp_path / "photos", Clear(), concepts=range(2), copies=2)
    assert run(["augment", "fit", "--indexes-dir", str(tmp_path)]) == 2
    assert "--captions" in capsys.readouterr().err


def test_explained_hits_say_rank_and_terms_and_an_emptied_answer_says_nothing(tmp_path):
    from clipsearch.types import Reordering

    collection, encoder = planted(tmp_path / "photos", Clear(), concepts=range(2), copies=2)
    result = collection.search(vector=encoder.concept(1), k=2)
    assert "no rung was used" in next(explained.lines(result))
    assert [field["plain_rank"] for field in explained.fields(result)] == [1, 2]
    from dataclasses import replace

    moved = replace(result, reordered=(Reordering(2, {"knn": 0.02}), Reordering(1, {"knn": -0.01})))
    assert "1 (by score alone 2)" in next(explained.lines(moved)) and "knn +0.0200" in next(explained.lines(moved))
    assert list(explained.fields(moved))[1] == {"plain_rank": 1, "terms": {"knn": -0.01}}
    assert not list(explained.lines(_emptied(moved))) and encoder.dim == DIM
