"""Plots of recall against what it costs. Better is up and to the left."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

KINDS = {"text": "text queries", "image": "image queries"}
OURS = ("#c1121f", "#e85d04", "#f48c06", "#9d0208", "#7209b7")
OTHERS = (
    "#1d3557", "#2a9d8f", "#457b9d", "#6a994e", "#8d6e63", "#5e60ce", "#0096c7", "#b5838d", "#6c757d", "#386641",
    "#3a0ca3", "#000000",
)  # fmt: skip
MARKERS = "os^DvP<>Xph*"
TICKS = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 1.0)
Line = Mapping[str, Any]


def latency(lines: Sequence[Line], path: str) -> None:
    """Draw recall against the median latency of a query asked alone, text and image queries side by side."""
    _draw(lines, path, lambda line: line["p50_ms"], "milliseconds a query, p50, one core (log)")


def memory(lines: Sequence[Line], path: str) -> None:
    """Draw recall against the bytes a vector that searches work with: large the best of a build, small the rest."""
    _draw(
        lines, path, lambda line: line["hot_bytes_per_vector"], "bytes a vector in memory or mapped (log)", join=False
    )


def stretched(recall: float) -> float:
    """Return where a recall lies on the axis: each nine gets as much room as the one before, 1 is finite."""
    return -math.log10(1.0 - min(max(recall, 0.0), 1.0) + 0.003)


def frontier(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the (cost, recall) points that no other beats in both, cheapest first."""
    kept: list[tuple[float, float]] = []
    for cost, recall in sorted(points, key=lambda p: (p[0], -p[1])):
        if not kept or recall > kept[-1][1]:
            kept.append((cost, recall))
    return kept


def _draw(lines: Sequence[Line], path: str, cost: Any, axis: str, join: bool = True) -> None:
    labels = list(dict.fromkeys(line["label"] for line in lines))
    styles = _styles(labels, lines)
    figure, axes = plt.subplots(1, 2, figsize=(15, 6.5), sharey=True, layout="constrained")
    for ax, (kind, title) in zip(axes, KINDS.items(), strict=True):
        for label in labels:
            mine = _of(lines, label, kind)
            points = [(cost(line), line["recall"]) for line in mine if cost(line)]
            if points:
                _series(ax, points, styles[label], label, join)
        _axes(ax, f"{title}, {lines[0]['n']:,} vectors", axis)
    least = min(line["recall"] for line in lines if line["kind"] in KINDS)
    axes[0].set_ylim(stretched(max(least - 0.1, 0.25)), stretched(1.0) + 0.1)
    axes[0].set_ylabel(f"recall@{lines[0]['k']}")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right upper", fontsize=9, frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _of(lines: Sequence[Line], label: str, kind: str) -> list[Line]:
    """Return the points of a label; one measured with text alone compares every row, and images cost it the same."""
    mine = [line for line in lines if line["label"] == label]
    alone = {line["kind"] for line in mine} == {"text"}
    return mine if alone else [line for line in mine if line["kind"] == kind]


def _styles(labels: Sequence[str], lines: Sequence[Line]) -> dict[str, dict[str, Any]]:
    ours = [label for label in labels if any(x["label"] == label and x["contender"] == "clipsearch" for x in lines)]
    others = [label for label in labels if label not in ours]
    styles = {}
    for group, colours, width in ((ours, OURS, 2.4), (others, OTHERS, 1.2)):
        for number, label in enumerate(group):
            marker = "o" if group is ours else MARKERS[1 + number % (len(MARKERS) - 1)]
            styles[label] = {"color": colours[number % len(colours)], "marker": marker, "linewidth": width}
    return styles


def _series(ax: Axes, points: list[tuple[float, float]], style: dict[str, Any], label: str, join: bool) -> None:
    best = frontier(points)
    if join:
        ax.plot([p[0] for p in best], [stretched(p[1]) for p in best], label=label, markersize=6, **style)
        rest = [p for p in points if p not in best]
    else:
        top = max(points, key=lambda p: p[1])
        ax.plot([top[0]], [stretched(top[1])], label=label, markersize=9, **{**style, "linestyle": "none"})
        rest = [p for p in points if p != top]
    ax.scatter([p[0] for p in rest], [stretched(p[1]) for p in rest], s=14, alpha=0.35, color=style["color"])


def _axes(ax: Axes, title: str, axis: str) -> None:
    ax.set_xscale("log")
    ax.set_title(title)
    ax.set_xlabel(axis)
    ax.yaxis.set_major_locator(FixedLocator([stretched(tick) for tick in TICKS]))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda _, i: f"{TICKS[i]:g}"))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    ax.grid(which="major", alpha=0.35)
    ax.grid(which="minor", axis="x", alpha=0.15)
