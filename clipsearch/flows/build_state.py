"""How far a build has come, on the disk: a build that was stopped or killed goes on from there.

``index/building.json`` names what is finished: the trained index, the parts that hold rows, the file joined from them,
the exact rows. It is replaced in one step each time one of these is in place, and carries the digest of what it says;
each file in it has its own. What is not in it is removed by the next build.

A part says which rows it holds by the digest of their ids, and an id never means another embedding. So a part is used
again exactly if the collection still has those rows there; rows that came or went in between cost their parts and not
the others, and never the training.
"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from clipsearch.errors import ClipsearchError
from clipsearch.flows.saved_files import SavedFile, Segment, is_whole, saved_file, saved_segment
from clipsearch.index.recipe import Recipe, from_mapping
from clipsearch.store.files import replace_file, sha256, sync_dir
from clipsearch.store.stamps import Stamps

STATE = "building.json"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Part:
    """Rows that are in lists of their own: the ``number``-th ``part_rows`` of the live rows, the last ones fewer.

    ``ids`` is the digest of their ids.
    """

    number: int
    n: int
    ids: str
    file: SavedFile


@dataclass(frozen=True, slots=True)
class BuildState:
    """What is finished of a build.

    Attributes:
        recipe: what it is built by.
        fingerprint: of the encoder.
        version: manifest version when the training began.
        sampled_rows: rows that the sample was drawn from.
        seed: of the sample.
        part_rows: rows in a part.
        trained: the trained, empty index.
        parts: the parts in place.
        covers: digest of the ids of all rows in ``lists`` and ``segment``.
        lists: the file joined from the parts, not yet in force.
        imbalance: of its lists.
        segment: the exact rows.
        stages: seconds spent so far, by stage.
    """

    recipe: Recipe
    fingerprint: str
    version: int
    sampled_rows: int
    seed: int
    part_rows: int
    trained: SavedFile
    parts: tuple[Part, ...] = ()
    covers: str = ""
    lists: SavedFile | None = None
    imbalance: float = 1.0
    segment: Segment | None = None
    stages: Mapping[str, float] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def files(self) -> list[SavedFile]:
        """All files of it."""
        rows = [] if self.segment is None else [self.segment.ids, self.segment.rows]
        lists = [] if self.lists is None else [self.lists]
        return [self.trained, *(part.file for part in self.parts), *lists, *rows]


def read_state(folder: str) -> BuildState | None:
    """Return what is finished and whole; None where nothing is, or the training is not."""
    try:
        with open(os.path.join(folder, STATE), "rb") as file:
            digest, data = file.read().split(b"\n", 1)
        if digest.decode("ascii") != sha256(data):
            return None
        state = _from_json(json.loads(data))
    except (OSError, ValueError, TypeError, KeyError, ClipsearchError):
        return None
    stamps, own = Stamps(os.path.dirname(folder)), os.path.basename(folder)
    if not is_whole(stamps, own, state.trained):
        return None
    whole = {file.name for file in state.files if is_whole(stamps, own, file)}
    segment = state.segment
    if segment is not None and not {segment.ids.name, segment.rows.name} <= whole:
        segment = None
    return replace(
        state,
        parts=tuple(part for part in state.parts if part.file.name in whole),
        lists=state.lists if state.lists is not None and state.lists.name in whole else None,
        segment=segment,
    )


def write_state(folder: str, state: BuildState) -> None:
    """Put a state in place; the files that it names are there already."""
    sync_dir(folder)
    data = json.dumps(asdict(state), indent=1).encode() + b"\n"
    replace_file(os.path.join(folder, STATE), sha256(data).encode() + b"\n" + data)
    sync_dir(folder)


def forget(folder: str) -> None:
    """Give a build up; its files go with the next cleaning."""
    with suppress(FileNotFoundError):
        os.unlink(os.path.join(folder, STATE))


def kept_files(folder: str) -> set[str]:
    """Return the names of the files of a build that was begun."""
    state = read_state(folder)
    return set() if state is None else {STATE, *(file.name for file in state.files)}


def _from_json(document: Any) -> BuildState:  # Any: JSON
    if document["format"] != FORMAT:
        raise ValueError("another format")
    parts = tuple(Part(p["number"], p["n"], p["ids"], saved_file(p["file"])) for p in document["parts"])
    return BuildState(
        **{
            **document,
            "recipe": from_mapping(document["recipe"]),
            "trained": saved_file(document["trained"]),
            "parts": parts,
            "lists": document["lists"] and saved_file(document["lists"]),
            "segment": document["segment"] and saved_segment(document["segment"]),
        }
    )
