"""Check everything that lies in a collection's folder, and say what is damaged and what to do.

Each file is read once and held against the digest that was noted when it was written: the store's own files
(``store/checking.py``), the built index, the calibration, what augments queries, the ledger of generated pictures and
these pictures. A search reads none of them this closely: it looks at sizes and at the file system's stamps, and at
digests only where a stamp is not known (``store/stamps.py``). So bytes that a failing disk changes without a trace are
found here, and only here.
"""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from clipsearch.errors import CorruptShardError
from clipsearch.flows.augment_files import FOLDER as AUGMENT
from clipsearch.flows.augment_files import file_problems
from clipsearch.flows.build_state import STATE, kept_files, read_state
from clipsearch.flows.calibration_files import FOLDER as CALIBRATION
from clipsearch.flows.calibration_files import saved_files
from clipsearch.flows.index_files import IndexRecord, files_in_force, read_record
from clipsearch.flows.index_folders import INDEX_FOLDERS
from clipsearch.flows.progress import Progress
from clipsearch.flows.saved_files import SavedFile
from clipsearch.generate.cache import GeneratedFolder
from clipsearch.index.recipe import to_toml
from clipsearch.store.checking import Checked, Damage, check_store, file_problem, orphans
from clipsearch.store.files import CURRENT, read_bytes, sha256

DAMAGED = "damaged"  # folder that 'clipsearch repair' moves damaged files to
_INDEX_TODO = "'clipsearch repair' builds it again; until then all {} are compared."
_CALIBRATION_TODO = "'clipsearch repair' makes it again; until then searches have no verdict."
_AUGMENT_TODO = "'clipsearch repair' puts it out of use; 'clipsearch augment fit' makes it again."
_LEDGER_TODO = "'clipsearch repair' keeps a copy in damaged/ and goes on with the rows that can be read."
_PICTURE_TODO = "'clipsearch repair' moves it to damaged/; the same request draws it again."


@dataclass(frozen=True, slots=True)
class Verification:
    """What a check of a collection found.

    Attributes:
        version: in force; 0 where no manifest can be read.
        files: files that were read; ``bytes`` of them.
        damages: those that are not what was written.
        orphans: files that nothing names: harmless, and only in the way.
        notes: what could not be checked as closely.
    """

    name: str
    path: str
    version: int
    files: int
    bytes: int
    damages: tuple[Damage, ...]
    orphans: tuple[str, ...]
    notes: tuple[str, ...]
    seconds: float

    @property
    def whole(self) -> bool:
        """Whether nothing is damaged."""
        return not self.damages


def verify(path: str, progress: Callable[[Progress], None] | None = None) -> Verification:
    """Check a collection, which may be too damaged to be opened.

    Args:
        path: its folder.
        progress: hears the bytes read.

    Raises:
        CollectionNotFoundError: there is none.
        FormatVersionError: a newer clipsearch wrote it.
    """
    start, path = time.monotonic(), os.path.abspath(path)
    total, done = _size(path), 0

    def tell(n: int) -> None:
        nonlocal done
        done += n
        if progress is not None:
            progress(Progress("verify", min(done, total), total))

    found = check_store(path, tell)
    notes: list[str] = []
    for kind in INDEX_FOLDERS:
        _check_index(path, kind, found, tell)
    _check_calibration(path, found, notes, tell)
    _check_augment(path, found)
    _check_generated(path, found, notes)
    left = [name for name in orphans(path, found.known) if not name.startswith(f"{DAMAGED}/")]
    return Verification(
        name=os.path.basename(path),
        path=path,
        version=0 if found.manifest is None else found.manifest.version,
        files=len(found.known),
        bytes=found.bytes,
        damages=tuple(found.damages),
        orphans=tuple(left),
        notes=tuple(notes),
        seconds=time.monotonic() - start,
    )


def _size(path: str) -> int:
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except OSError:  # gone since: an index run is at work
                continue
    return total


def _add(found: Checked, name: str, kind: str, what: str | None, todo: str) -> None:
    found.known.add(name)
    if what is not None:
        found.damages.append(Damage(name, kind, kind not in ("ledger", "generated"), what, todo))


def _check_saved(
    path: str, folder: str, files: Iterable[SavedFile], found: Checked, todo: str, tell: Callable[[int], None]
) -> None:
    for file in files:
        what = file_problem(os.path.join(path, folder, file.name), file.bytes, file.sha256)
        _add(found, f"{folder}/{file.name}", folder, what, todo)
        found.bytes += file.bytes
        tell(file.bytes)


def _check_index(path: str, kind: str, found: Checked, tell: Callable[[int], None]) -> None:
    own, todo = INDEX_FOLDERS[kind], _INDEX_TODO.format(kind)
    folder = os.path.join(path, own)
    found.known |= {f"{own}/{name}" for name in kept_files(folder)}
    if os.path.exists(os.path.join(folder, STATE)) and read_state(folder) is None:
        _add(found, f"{own}/{STATE}", own, "it is not what was written", "The build that was begun starts anew.")
    try:
        record = read_record(path, kind)
    except CorruptShardError as problem:
        _add(found, f"{own}/{CURRENT}", own, str(problem).split("\n", 1)[0], todo)
        return
    if record is None:
        return
    found.known |= {f"{own}/{CURRENT}", *(f"{own}/{name}" for name in files_in_force(path, kind))}
    _check_saved(path, own, record.files, found, todo, tell)
    for name in files_in_force(path, kind):
        if name.endswith(".recipe.toml"):
            _add(found, f"{own}/{name}", own, _recipe_problem(os.path.join(folder, name), record), todo)


def _recipe_problem(where: str, record: IndexRecord) -> str | None:
    try:
        return None if read_bytes(where) == to_toml(record.recipe).encode() else "it is not the recipe of the index"
    except OSError:
        return "it is missing"


def _check_calibration(path: str, found: Checked, notes: list[str], tell: Callable[[int], None]) -> None:
    try:
        saved = saved_files(path)
    except ValueError as problem:
        _add(found, f"{CALIBRATION}/{CURRENT}", CALIBRATION, str(problem), _CALIBRATION_TODO)
        return
    if saved is None:
        return
    name, files = saved
    found.known |= {f"{CALIBRATION}/{CURRENT}", f"{CALIBRATION}/{name}"}
    stem = name.removesuffix(".json")
    if not files:
        beside = [name for name in os.listdir(os.path.join(path, CALIBRATION)) if name.startswith(stem)]
        found.known |= {f"{CALIBRATION}/{name}" for name in beside}
        notes.append("The calibration was made before its files had digests; the next one that is made has them.")
    _check_saved(path, CALIBRATION, files, found, _CALIBRATION_TODO, tell)


def _check_augment(path: str, found: Checked) -> None:
    for name, what in file_problems(path).items():
        _add(found, f"{AUGMENT}/{name}", AUGMENT, what, _AUGMENT_TODO)


def _check_generated(path: str, found: Checked, notes: list[str]) -> None:
    """Check the ledger, and the pictures that it tells the digest of; one that was cleared away is no damage."""
    folder = GeneratedFolder(path)
    ledger = folder.ledger

    def name(where: str) -> str:
        return os.path.relpath(where, path)

    for where in (ledger.path, ledger.check_path, os.path.join(folder.path, "breaker.json")):
        if os.path.exists(where):
            found.known.add(name(where))
    if os.path.exists(ledger.path) and not os.path.exists(ledger.check_path):
        notes.append("The ledger of generated pictures has no digest yet; the next picture that is drawn adds one.")
    problem = ledger.problem()
    if problem is not None:
        _add(found, name(problem[0]), "ledger", problem[1], _LEDGER_TODO)
    for row in ledger.made().values():
        where = folder.place(row) if row.get("file") and row.get("sha256") else ""
        if where and os.path.exists(where):
            data = read_bytes(where)
            found.bytes += len(data)
            what = None if sha256(data) == row["sha256"] else "its digest differs"
            _add(found, name(where), "generated", what, _PICTURE_TODO)
