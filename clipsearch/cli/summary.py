"""What a person reads after an index run: counts in one line, and every file left out."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from clipsearch.present.text import cell_width, count, duration, printable

if TYPE_CHECKING:
    from clipsearch import ImportReport, IndexReport, Skip

NAMED = 20  # skipped files named in all
NAMED_EACH = 5  # ... and of one reason, where there are more than that


def index_summary(report: "IndexReport", place: str, width: int | None) -> Iterator[str]:
    """Yield the closing line of a run, in two where ``width`` cells are too few for it.

    Images are those of the whole collection, what is in brackets is this run; the rate counts the pictures that went
    through the model.
    """
    whole = count(report.images_total, "image")
    if report.texts_total:
        whole += f", {count(report.texts_total, 'caption')}"
    done = [
        f"{report.embedded:,} embedded",
        f"{report.reused:,} reused",
        f"{report.unchanged:,} unchanged",
        f"{report.deleted:,} deleted",
    ]
    if report.texts:
        done.append(f"{count(report.texts, 'new caption')}")
    rest = f"{len(report.skips):,} skipped, {report.ignored:,} ignored in {duration(report.seconds)}"
    if report.embedded and report.seconds > 0:
        rest += f" ({report.embedded / report.seconds:.1f} images/s)"
    line = f"{printable(place)}: {whole} ({', '.join(done)}), {rest}"
    if width is None or cell_width(line) <= width:
        yield line
    else:
        yield f"{printable(place)}: {whole}"
        yield f"  {', '.join(done)}"
        yield f"  {rest}"
    if report.columns:
        yield f"  {columns_summary(report.columns)}"
    if report.embedded and (shares := stage_shares(report.stages, report.seconds)):
        yield f"  {shares}"


def columns_summary(columns: Mapping[str, int]) -> str:
    """Return what new pictures got in columns that were added before: how many, by column."""
    return "new pictures have values in " + ", ".join(f"{name} ({n:,})" for name, n in columns.items())


def stage_shares(stages: Mapping[str, float], seconds: float) -> str:
    """Return what part of a run's time it spent waiting for each stage, the largest first; "" without a figure.

    Stages overlap, so a stage that others hide shows as little: what has the largest part is what to make faster.
    """
    parts = [(share, stage) for stage, spent in stages.items() if (share := round(100 * spent / max(seconds, 1e-9)))]
    return ", ".join(f"{stage} {share} %" for share, stage in sorted(parts, reverse=True))


def import_summary(report: "ImportReport", place: str) -> str:
    """Return the closing line of an import: the whole collection, then this run in brackets."""
    whole = count(report.images_total, "image")
    if report.texts_total:
        whole += f", {count(report.texts_total, 'caption')}"
    done = [f"{report.images:,} imported", f"{report.unchanged:,} unchanged", f"{report.deleted:,} deleted"]
    if report.texts:
        done.append(count(report.texts, "new caption"))
    line = (
        f"{printable(place)}: {whole} ({', '.join(done)}), {len(report.skips):,} skipped in {duration(report.seconds)}"
    )
    if report.images and report.seconds > 0:
        line += f" ({report.images / report.seconds:,.0f} rows/s)"
    return line


def skip_listing(skips: Sequence["Skip"], report: str | None, noun: str = "file") -> Iterator[str]:
    """Yield the files left out, by reason, the most frequent first; up to 20 are named, and where the rest is."""
    by_reason: dict[str, list[Skip]] = {}
    for skip in skips:
        by_reason.setdefault(str(skip.reason), []).append(skip)
    if skips:
        yield f"skipped {count(len(skips), noun)}:"
    left, each = NAMED, NAMED if len(skips) <= NAMED else NAMED_EACH
    for reason, some in sorted(by_reason.items(), key=lambda item: -len(item[1])):
        yield f"  {reason.replace('_', ' ')} ({len(some):,})"
        for skip in some[: min(each, left)]:
            yield f"    {printable(skip.display)}" + (f": {printable(skip.detail)}" if skip.detail else "")
        left -= min(each, left, len(some))
    unnamed = len(skips) - (NAMED - left)
    if unnamed > 0:
        where = f"all are in {report}" if report else "--report FILE lists all"
        yield f"  ... and {unnamed:,} more; {where}"
