"""The copies that ``plant_duplicates.py`` plants: written to a folder, and found again once they are indexed."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from clipsearch.decode import DecodeFailure, DecodeLimits, DecodePool, DecodeRequest
from clipsearch.decode.read import read_bytes
from clipsearch.decode.whole import Whole
from clipsearch.errors import StorageError
from clipsearch.evaluation.planting import COPIES, burst
from clipsearch.flows.alike import Alike
from clipsearch.flows.calibrate_rows import live_ids
from clipsearch.flows.originals import Originals
from clipsearch.flows.progress import Progress
from clipsearch.scan.names import is_image_name
from clipsearch.store import Snapshot
from clipsearch.types import Decoded, ImageRef, Ints

BYTE_COPY, BURST = "byte copy", "burst"
KINDS = {
    BYTE_COPY: Alike.BYTES,
    **dict.fromkeys(
        ("JPEG, quality 50", "WebP, quality 60", "half the size", "cropped by 2 %"),
        Alike.PICTURE,
    ),
    BURST: Alike.BURST,
}
_LARGEST = 2048  # pixels of the longer side of what copies are made of: more would cost minutes and change nothing
_AT_ONCE = 64  # pictures drawn at a time


@dataclass(frozen=True, slots=True, eq=False)
class Planted:
    """The pictures that were planted (m): row ids of what was copied, and of the files of each kind, -1 for none.

    A kind has one file of each picture, a burst two.
    """

    originals: Ints
    files: dict[str, Ints]  # (m, 1 or 2)

    def pairs(self, kind: str) -> tuple[Ints, Ints, Ints]:
        """Return which pictures have their pair of a kind, and the row ids of both."""
        files = self.files[kind]
        first = self.originals if files.shape[1] == 1 else files[:, 0]
        there = np.flatnonzero((files >= 0).all(axis=1))
        return there, first[there], files[there, -1]


def write_copies(snapshot: Snapshot, folder: str, n: int, seed: int, tell: Callable[[Progress], None]) -> list[int]:
    """Write copies of ``n`` pictures that can be opened, or of as many as there are; return their row ids."""
    ids: list[int] = []
    try:
        for number in range(len(KINDS)):
            os.makedirs(os.path.join(folder, str(number)))
        for id_, picture in _drawn(snapshot, seed):
            data = _bytes_of(picture)
            if data is None:
                continue
            for name, copy in _copies(picture, data, len(ids)):
                with open(os.path.join(folder, name), "wb") as file:
                    file.write(copy)
            ids.append(id_)
            tell(Progress("plant", len(ids), n))
            if len(ids) == n:
                break
    except OSError as problem:
        raise StorageError(
            f"Copies cannot be written to {folder}: {problem.strerror or problem}.\n"
            "Plant fewer, or give a folder with more room by the environment variable TMPDIR."
        ) from problem
    return ids


def _drawn(snapshot: Snapshot, seed: int) -> Iterator[tuple[int, Decoded]]:
    """Yield pictures whose files are what was indexed, in an order that the seed decides."""
    order, originals = np.random.default_rng(seed).permutation(live_ids(snapshot, "images")), Originals(snapshot)
    with DecodePool(Whole(_LARGEST), lookahead=_AT_ONCE) as pool:
        for start in range(0, len(order), _AT_ONCE):
            rows = snapshot.rows("images", order[start : start + _AT_ONCE])
            refs = originals.refs(rows)
            some = [(row, ref) for row, ref in zip(rows, refs, strict=True) if ref is not None]
            results = pool.run(DecodeRequest(ref) for _, ref in some)
            for (row, _), result in zip(some, results, strict=True):
                if isinstance(result, Decoded) and result.content_hash == row["content_hash"]:
                    yield row["id"], result


def _bytes_of(picture: Decoded) -> bytes | None:
    try:
        return read_bytes(picture.ref, DecodeLimits().max_bytes)
    except DecodeFailure:  # gone since it was decoded
        return None


def _copies(picture: Decoded, data: bytes, number: int) -> Iterator[tuple[str, bytes]]:
    """Yield the files of all kinds of copies of a picture: kind, number and which of the two, and bytes."""
    image = Image.fromarray(picture.pixels)
    for place, kind in enumerate(KINDS):
        if kind == BYTE_COPY:
            files = [(_suffix(picture.ref), data)]
        elif kind == BURST:
            files = [(".jpg", frame) for frame in burst(image, number)]
        else:
            files = [(COPIES[kind].suffix, COPIES[kind].made(image))]
        yield from ((os.path.join(str(place), f"{number}-{n}{suffix}"), made) for n, (suffix, made) in enumerate(files))


def _suffix(ref: ImageRef) -> str:
    name = ref.member or ref.path
    return os.fsdecode(os.path.splitext(name)[1]) if is_image_name(name) else ".jpg"


def found_again(grown: Snapshot, folder: str, originals: Sequence[int]) -> Planted:
    """Return the row ids of the files that were planted."""
    kinds = list(KINDS)
    files = {kind: np.full((len(originals), 2 if kind == BURST else 1), -1, np.int64) for kind in kinds}
    above = os.path.join(os.fsencode(os.path.abspath(folder)), b"")
    roots = {root.id: grown.root_path(root.id) for root in grown.manifest.roots}
    for row in grown.known_files():
        place = os.path.join(roots[row.root], row.path)
        if row.member is None and place.startswith(above):
            kind, name = os.fsdecode(place[len(above) :]).split("/")
            number, which = os.path.splitext(name)[0].split("-")
            files[kinds[int(kind)]][int(number), int(which)] = row.id
    return Planted(np.array(originals, np.int64), files)
