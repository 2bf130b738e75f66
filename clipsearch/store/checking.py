"""Read every byte of a collection's own files once, and say what is not as it was written.

Digests find every changed byte. What a digest cannot tell is looked at besides: ids that occur twice, embeddings that
are not finite or not of unit norm, counts that do not add up. Files that no manifest names harm nobody: they are
listed apart.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from clipsearch.errors import CorruptShardError, FormatVersionError
from clipsearch.store import manifest as manifests
from clipsearch.store.files import CURRENT, derived_pointer, read_bytes, sha256, sha256_of_file
from clipsearch.store.manifest import MANIFESTS, FileEntry, Manifest
from clipsearch.store.packs import FOLDER as PACKS
from clipsearch.store.packs import pointed_record, read_packs
from clipsearch.store.stamps import NOTES, notes_problem
from clipsearch.types import Ints

NORM_SLACK = 0.01  # float16 and a thousand dimensions make less than a tenth of it
Tell = Callable[[int], None]

TODO = {
    "sidecar": "'clipsearch repair' makes it again from its shard.",
    "images": "'clipsearch repair' makes it again from its sidecars, or else from the pictures.",
    "texts": "'clipsearch repair' makes it again from its sidecars; else index the captions again.",
    "deleted": "'clipsearch repair' makes it again from its sidecar; else index again, which finds what is gone.",
    "skipped": "'clipsearch repair' drops it; the next 'clipsearch index' makes another.",
    "imports": "'clipsearch repair' drops it; the next import compares everything again.",
    "added": "'clipsearch repair' drops it; make the column again with 'clipsearch tag' or 'clipsearch ask --all'.",
    "made": "'clipsearch repair' drops it; make the column again with 'clipsearch tag' or 'clipsearch ask --all'.",
    "manifest": "'clipsearch repair' takes the newest version that is whole.",
    "pointer": "'clipsearch repair' writes it again.",
    "older": "No search needs it; 'clipsearch repair' moves it to damaged/.",
    "columns": "'clipsearch repair' makes it again; until then filters read the shards.",
    "stamps": "'clipsearch repair' drops it; until then searches of a copied collection read more than they need to.",
}
DERIVED = {"sidecar", "columns", "pointer", "older", "stamps"}


@dataclass(frozen=True, slots=True)
class Damage:
    """A file that is not what was written.

    Attributes:
        name: relative to the collection's folder.
        kind: what it is.
        derived: whether it is made again from others without loss.
        what: what is wrong with it.
        todo: what to do.
    """

    name: str
    kind: str
    derived: bool
    what: str
    todo: str


def damage(name: str, kind: str, what: str) -> Damage:
    """Return the damage of a file of the store."""
    return Damage(name, kind, kind in DERIVED, what, TODO[kind])


@dataclass
class Checked:
    """What was found: damaged files, the names of all files that belong here, and what was read."""

    damages: list[Damage] = field(default_factory=list)
    known: set[str] = field(default_factory=set)
    bytes: int = 0
    manifest: Manifest | None = None

    def add(self, name: str, kind: str, what: str | None) -> None:
        """Note that a file belongs here, and what is wrong with it, if anything."""
        self.known.add(name)
        if what is not None:
            self.damages.append(damage(name, kind, what))


def file_problem(where: str, size: int, digest: str) -> str | None:
    """Read a file and return what is wrong with it; None where it is whole."""
    try:
        found = os.stat(where).st_size
        if found != size:
            return f"it has {found:,} bytes instead of {size:,}"
        return None if sha256_of_file(where) == digest else "its digest differs"
    except FileNotFoundError:
        return "it is missing"
    except OSError as problem:
        return f"it cannot be read: {problem.strerror}"


def check_store(path: str, tell: Tell | None = None) -> Checked:
    """Check CURRENT, the manifests and all that they name, and the packs of columns.

    Args:
        path: the collection.
        tell: hears the bytes read, file by file.

    Raises:
        CollectionNotFoundError: there is none.
        FormatVersionError: a newer clipsearch wrote it.
    """
    found = Checked()
    manifest = found.manifest = _manifest_in_force(path, found)
    if manifest is not None:
        seen: list[tuple[str, Ints]] = []
        for entry in manifest.files:
            what = _entry_problem(path, entry, manifest.dim, seen)
            found.add(entry.name, entry.kind, what)
            found.bytes += entry.bytes
            if tell is not None:
                tell(entry.bytes)
        _check_rows(path, manifest, seen, found)
        _check_older(path, manifest, found)
    _check_packs(path, found)
    found.add(NOTES, "stamps", notes_problem(path))
    if not os.path.lexists(os.path.join(path, NOTES)):
        found.known.discard(NOTES)
    return found


def newest_readable(path: str, below: int | None = None) -> Manifest | None:
    """Return the newest manifest that can be understood, of versions up to ``below``."""
    for version in sorted(versions(path), reverse=True):
        if below is None or version <= below:
            manifest = _readable(path, version)
            if manifest is not None:
                return manifest
    return None


def versions(path: str) -> list[int]:
    """Return the versions whose manifests lie there."""
    try:
        names = os.listdir(os.path.join(path, MANIFESTS))
    except OSError:
        return []
    stems = [name[1:-5] for name in names if name.startswith("v") and name.endswith(".json")]
    return [int(stem) for stem in stems if stem.isdecimal() and manifests.file_name(int(stem)) == f"v{stem}.json"]


def orphans(path: str, known: set[str]) -> list[str]:
    """Return the files, relative to the collection, that ``known`` does not hold and that no lock is."""
    found = [name for name in _walk(path) if name not in known]
    return sorted(name for name in found if not os.path.basename(name).startswith(".lock"))


def _walk(path: str) -> Iterator[str]:
    for folder, _, names in os.walk(path):
        for name in names:
            yield os.path.relpath(os.path.join(folder, name), path)


def _readable(path: str, version: int) -> Manifest | None:
    where = os.path.join(path, MANIFESTS, manifests.file_name(version))
    try:
        manifest = manifests.from_bytes(read_bytes(where), where)
    except FormatVersionError:
        raise
    except (OSError, CorruptShardError):
        return None
    return manifest if manifest.version == version else None


def _manifest_in_force(path: str, found: Checked) -> Manifest | None:
    found.known.add(CURRENT)
    try:
        pointer, manifest = manifests.read_current(path)
    except CorruptShardError as problem:
        named = manifests.pointed_at(manifests.read_pointer(path))
        name = CURRENT if named is None else f"{MANIFESTS}/{manifests.file_name(named[0])}"
        found.add(name, "pointer" if named is None else "manifest", str(problem).split("\n", 1)[0])
        manifest = newest_readable(path, None if named is None else named[0] - 1)
        if manifest is not None:
            found.known.add(f"{MANIFESTS}/{manifests.file_name(manifest.version)}")
        return manifest
    found.add(f"{MANIFESTS}/{manifests.file_name(manifest.version)}", "manifest", None)
    found.bytes += len(pointer)
    return manifest


def _entry_problem(path: str, entry: FileEntry, dim: int, seen: list[tuple[str, Ints]]) -> str | None:
    if entry.kind not in ("images", "texts"):
        return file_problem(os.path.join(path, entry.name), entry.bytes, entry.sha256)
    from clipsearch.store import parquet

    try:
        with open(os.path.join(path, entry.name), "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return "it is missing"
    except OSError as problem:
        return f"it cannot be read: {problem.strerror}"
    if len(data) != entry.bytes:
        return f"it has {len(data):,} bytes instead of {entry.bytes:,}"
    if sha256(data) != entry.sha256:
        pages = parquet.page_problem(data)
        return "its digest differs" if pages is None else f"its digest differs; its pages say: {pages}"
    try:
        ids, embeddings = parquet.inspect(data)
    except (ValueError, KeyError) as problem:
        return f"it is no shard: {problem}"
    seen.append((entry.kind, ids))
    return _content_problem(entry, ids, embeddings, dim)


def _content_problem(entry: FileEntry, ids: Ints, embeddings: np.ndarray, dim: int) -> str | None:
    if len(ids) != entry.rows or embeddings.shape[1] != dim:
        return f"it holds {len(ids):,} rows of {embeddings.shape[1]} numbers instead of {entry.rows:,} of {dim}"
    if len(ids) > 1 and not (np.diff(ids) > 0).all():
        return "its ids do not ascend"
    for start in range(0, len(ids), 8192):
        norms = np.linalg.norm(embeddings[start : start + 8192].astype(np.float32), axis=1)
        bad = ~(np.abs(norms - 1) <= NORM_SLACK)  # of NaN too
        if bad.any():
            return f"the embedding of row {ids[start + int(np.argmax(bad))]} is not finite or not of unit norm"
    return None


def _check_rows(path: str, manifest: Manifest, seen: list[tuple[str, Ints]], found: Checked) -> None:
    """Look at ids and counts, where every file that says something about them is whole."""
    bad = {one.name for one in found.damages}
    if any(entry.name in bad for entry in manifest.files if entry.kind in ("images", "texts", "deleted")):
        return
    from clipsearch.store import parquet

    none = np.empty(0, np.int64)
    every = np.concatenate([none, *(ids for _, ids in seen)])
    name = f"{MANIFESTS}/{manifests.file_name(manifest.version)}"
    if len(np.unique(every)) != len(every):
        found.add(name, "manifest", "two rows have the same id")
    elif len(every) and (every.min() < 0 or every.max() >= manifest.next_id):
        found.add(name, "manifest", "a row has an id that was never given out")
    gone = [parquet.decode_ids(read_bytes(os.path.join(path, e.name))) for e in manifest.files_of("deleted")]
    dead = np.unique(np.concatenate([none, *gone]))
    for kind in ("images", "texts"):
        ids = np.concatenate([none, *(some for what, some in seen if what == kind)])
        live = int(np.count_nonzero(~np.isin(ids, dead)))
        if live != manifest.counts[kind]:
            found.add(name, "manifest", f"{live:,} {kind} are there; it counts {manifest.counts[kind]:,}")


def _check_older(path: str, manifest: Manifest, found: Checked) -> None:
    """Check the manifests before the one in force, as far as they are there, and what only they name."""
    digest = manifest.previous_sha256
    there = sorted(version for version in versions(path) if version < manifest.version)
    names: dict[str, FileEntry] = {}
    for version in reversed(there):
        name = f"{MANIFESTS}/{manifests.file_name(version)}"
        older = _readable(path, version)
        try:
            altered = digest is not None and sha256_of_file(os.path.join(path, name)) != digest
        except OSError:
            altered = True
        found.add(name, "older", "it is not what was written" if altered or older is None else None)
        digest = None if older is None or altered else older.previous_sha256
        for entry in () if older is None or altered else older.files:
            names.setdefault(entry.name, entry)
    for name, entry in names.items():
        where = os.path.join(path, name)
        if name not in found.known and os.path.lexists(where):
            found.add(name, "older", file_problem(where, entry.bytes, entry.sha256))
            found.bytes += entry.bytes


def _check_packs(path: str, found: Checked) -> None:
    pointer = derived_pointer(os.path.join(path, PACKS))
    if pointer is None:
        return
    found.known.add(f"{PACKS}/{CURRENT}")
    record = pointed_record(path)
    if record is None:
        found.add(f"{PACKS}/{CURRENT}", "columns", "it, or the record that it names, is not what was written")
        return
    found.known.add(f"{PACKS}/{record}")
    for pack in read_packs(path):
        found.add(f"{PACKS}/{pack.name}", "columns", file_problem(pack.where(path), pack.bytes, pack.sha256))
        found.bytes += pack.bytes
