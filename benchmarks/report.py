"""Results → a table in Markdown and plots beside it."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.measure import key
from benchmarks.suite import as_text

TARGET = 0.97  # recall@10 of text queries that the first table compares at
Line = Mapping[str, Any]


def write(name: str, lines: Sequence[Line], folder: str) -> None:
    """Write ``<name>.md`` and, where matplotlib is installed, the plots; of points measured twice the last stands."""
    lines = list({key(line): line for line in lines}.values())
    if not lines:
        return
    with open(os.path.join(folder, f"{name}.md"), "w", encoding="utf-8") as file:
        file.write(markdown(name, lines))
    try:
        import matplotlib as _  # noqa: F401
    except ImportError:
        print("No plots: pip install -r benchmarks/contenders/requirements/harness.txt brings matplotlib.")
        return
    from benchmarks import plot

    plot.latency(lines, os.path.join(folder, f"{name}-latency.png"))
    plot.memory(lines, os.path.join(folder, f"{name}-memory.png"))


def markdown(name: str, lines: Sequence[Line]) -> str:
    """Return the tables: what each build costs and gives at equal recall, then every point."""
    first = lines[0]
    head = [
        f"# {name}: {first['n']:,} vectors, {first['dataset']}",
        "",
        f"{first['cpu']}, {first['cores']} cores; measured {', '.join(sorted({line['run'][:10] for line in lines}))}. "
        f"Latency: one query at a time on one core. QPS: batches of {first['batch']} on two. Medians of up to "
        f"{max(line['rounds'] for line in lines)} rounds in turn. Recall@{first['k']} against exact search, ties "
        "allowed. Compare within this page; absolute times belong to this machine.",
        "",
        f"## At a text recall of {TARGET:g}",
        "",
        "The quickest point of each build that reaches it; else the best it has (marked *). Hot: bytes a vector that "
        "every search works with, in memory or mapped; rows: exact rows for re-ranking, mapped. Build seconds are "
        "wall (CPU), on a machine that may have been busy: CPU seconds compare better.",
        "",
    ]
    return "\n".join([*head, *_summary(lines), "", "## Every point", "", *_all_points(lines), ""])


def best_points(lines: Iterable[Line], kind: str = "text", recall: float = TARGET) -> dict[str, tuple[Line, bool]]:
    """Return for each label its quickest point that reaches a recall, and True; else its best one, and False."""
    found: dict[str, tuple[Line, bool]] = {}
    for label in dict.fromkeys(line["label"] for line in lines):
        mine = [line for line in lines if line["label"] == label and line["kind"] == kind and line["p50_ms"]]
        enough = [line for line in mine if line["recall"] >= recall]
        if enough:
            found[label] = min(enough, key=lambda line: line["p50_ms"]), True
        elif mine:
            found[label] = max(mine, key=lambda line: line["recall"]), False
    return found


def _summary(lines: Sequence[Line]) -> list[str]:
    by_point = {(line["label"], str(line["search"]), line["kind"]): line for line in lines}
    rows = []
    for label, (line, reached) in best_points(lines).items():
        image = by_point.get((label, str(line["search"]), "image"))
        rows.append(
            [
                label,
                _settings(line),
                f"{line['recall']:.3f}" + ("" if reached else "*"),
                _number(image["recall"] if image else None, 3),
                f"{_ms(line['p50_ms'])} / {_ms(line['p99_ms'])}",
                _number(line["qps"], 0),
                f"{_number(line['build_seconds'], 0)} ({_number(line['build_cpu_seconds'], 0)})",
                _mega(line["build_peak_bytes"]),
                _mega(line["peak_bytes"]),
                _number(line["hot_bytes_per_vector"], 0),
                _number(line["rows_bytes_per_vector"], 0),
                _number(line["disk_bytes_per_vector"], 0),
                f"{_ms(line['open_ms'])} + {_ms(line['first_query_ms'])}",
            ]
        )
    names = (
        "contender", "settings", "recall text", "recall image", "p50 / p99 ms", "QPS", "build s (CPU)", "build peak MB",
        "search peak MB", "hot B/vec", "rows B/vec", "disk B/vec", "open + first query ms",
    )  # fmt: skip
    return _table(names, rows)


def _all_points(lines: Sequence[Line]) -> list[str]:
    rows = [
        [
            line["label"],
            _settings(line),
            line["kind"],
            f"{line['recall']:.3f}",
            _ms(line["p50_ms"]),
            _ms(line["p99_ms"]),
            _share(line["p50_spread"]),
            _number(line["qps"], 0),
            _share(line["qps_spread"]),
            _share(line.get("own_share")),
        ]
        for line in lines
    ]
    names = ("contender", "settings", "queries", "recall", "p50 ms", "p99 ms", "spread", "QPS", "spread", "own layers")
    return _table(names, rows)


def _settings(line: Line) -> str:
    if line["search"] or not line["settings"]:
        return as_text(line["search"])
    return f"default: {as_text({k: v for k, v in line['settings'].items() if v is not False})}"


def _table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (names, ["---"] * len(names), *rows)]


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 10 else f"{value:,.0f}"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _mega(value: float | None) -> str:
    return "–" if value is None else f"{value / 1e6:,.0f}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"
