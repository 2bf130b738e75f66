"""What a build comes to: the record put in force, and the report on it."""

import os
import time
from dataclasses import dataclass, field

from clipsearch.flows.build_run import Run
from clipsearch.flows.index_files import IndexRecord, publish_record
from clipsearch.index.recipe import to_toml
from clipsearch.store.files import replace_file, sync_dir

_VERBS = {"built": "built over", "extended": "extended to"}


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What was done to the index.

    Attributes:
        action: "none", "built", "extended", "kept" or "removed".
        line: one sentence on it.
        type: the index type that searches use now.
        rows: rows put into the index by this run.
        seconds: how long this run took; ``stages`` how long each part of the build took, in this run and those that
            were stopped before.
        recall: recall@10 (0 to 1) at the default settings, by kind of query, where it was measured.
        resumed: whether it went on with a build that had been stopped.
    """

    action: str
    line: str
    type: str
    rows: int = 0
    seconds: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)
    recall: dict[str, float] = field(default_factory=dict)
    resumed: bool = False


def publish(run: Run, record: IndexRecord) -> None:
    """Put an index in force, with the recipe it was made by beside it; what else lies there goes."""
    stem = run.stem(record.recipe.type)
    replace_file(os.path.join(run.folder, f"{stem}.recipe.toml"), to_toml(record.recipe).encode())
    sync_dir(run.folder)
    publish_record(run.store.path, stem, record)


def report_on(run: Run, record: IndexRecord, action: str, rows: int, *, resumed: bool = False) -> BuildReport:
    """Return the report on an index that was just put in force."""
    recall = {kind: found.recall for kind, found in record.measured.items()}
    shown = ", ".join(f"{value:.3f} for {kind} queries" for kind, value in recall.items())
    seconds = time.monotonic() - run.start
    line = f"{record.recipe.type} {_VERBS[action]} {record.rows:,} {record.kind} in {seconds:.0f} s"
    line = f"{line}, going on from where it was stopped" if resumed else line
    return BuildReport(
        action,
        f"{line}; recall@10 {shown}" if shown else line,
        record.recipe.type,
        rows,
        round(seconds, 3),
        dict(run.stages),
        recall,
        resumed,
    )
