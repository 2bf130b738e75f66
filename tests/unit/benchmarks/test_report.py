"""Tables and plots: which points are shown."""

import pytest

from benchmarks.report import best_points, markdown


def line(label, recall, p50, kind="text", contender="numpy", **more):
    return {
        "suite": "s", "dataset": "d", "contender": contender, "label": label, "build": {}, "search": {"ef": p50},
        "settings": {}, "kind": kind, "k": 10, "recall": recall, "p50_ms": p50, "p99_ms": None, "p50_spread": 0.1,
        "qps": 1000.0, "qps_spread": 0.1, "batch": 64, "rounds": 3, "open_ms": 1.0, "first_query_ms": 2.0,
        "peak_bytes": 10**8, "hot_bytes_per_vector": 100.0, "rows_bytes_per_vector": 0.0,
        "disk_bytes_per_vector": 100.0, "build_seconds": 1.0, "build_cpu_seconds": 2.0, "build_peak_bytes": 10**9,
        "n": 1000, "run": "2030-01-01T00:00:00", "cpu": "one", "cores": 2, **more,
    }  # fmt: skip


LINES = [
    line("graph", 0.90, 0.1),
    line("graph", 0.98, 0.3),
    line("graph", 0.99, 0.6),
    line("codes", 0.80, 0.1),
    line("codes", 0.60, 0.05),
    line("graph", 0.985, 0.3, "image"),
    line("ours", 0.98, 0.2, contender="clipsearch", own_share=0.1),
]


def test_the_quickest_point_that_is_good_enough_is_shown_or_else_the_best():
    best = best_points(LINES)
    assert {label: (point["p50_ms"], reached) for label, (point, reached) in best.items()} == {
        "graph": (0.3, True),
        "codes": (0.1, False),
        "ours": (0.2, True),
    }


def test_the_table_names_every_point_and_marks_what_falls_short():
    text = markdown("s", LINES)
    assert text.count("| graph |") == 1 + 4
    assert "0.800*" in text
    assert "| 0.985 |" in text  # recall of image queries, beside that of text queries
    assert "10%" in text


def test_a_frontier_holds_what_no_other_beats():
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    from benchmarks.plot import frontier

    assert frontier([(1, 0.5), (2, 0.4), (3, 0.9), (1, 0.3), (4, 0.9)]) == [(1, 0.5), (3, 0.9)]


def test_plots_are_pictures(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    from PIL import Image

    from benchmarks import plot

    for draw in (plot.latency, plot.memory):
        draw(LINES, str(tmp_path / "p.png"))
        with Image.open(tmp_path / "p.png") as image:
            assert image.format == "PNG"
