"""Repair a collection: make again what is derived, embed again what is lost, and say what cannot be had.

The store mends its own files first (``store/mending.py``): after that the collection can be opened. Pictures whose rows
were lost are then indexed again from their files, as any new picture is, and packs, index and calibration are made
again where they are damaged. Every step looks at what is there, so a repair that was killed is simply begun again.
"""

import io
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass

from clipsearch.embed.base import Encoder
from clipsearch.flows.augment_files import FOLDER as AUGMENT
from clipsearch.flows.augment_files import withdraw as withdraw_augment
from clipsearch.flows.calibration_files import FOLDER as CALIBRATION
from clipsearch.flows.calibration_files import withdraw_calibration
from clipsearch.flows.index_folders import INDEX_FOLDERS
from clipsearch.flows.progress import Progress
from clipsearch.flows.verify import DAMAGED, Verification, verify
from clipsearch.generate.cache import GeneratedFolder
from clipsearch.store import Store, update_packs
from clipsearch.store.files import CURRENT, DIR_MODE
from clipsearch.store.mending import mend_store
from clipsearch.store.packs import FOLDER as PACKS
from clipsearch.store.stamps import NOTES

Tell = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What a repair did.

    Attributes:
        made: files, or kinds of them, that were made again.
        moved: damaged files that lie in ``damaged/`` now.
        lost: rows that were taken out; ``embedded`` of their pictures were indexed again.
        notes: what cannot be had again, and what to do.
        left: what is damaged still.
    """

    made: tuple[str, ...]
    moved: tuple[str, ...]
    lost: int
    embedded: int
    notes: tuple[str, ...]
    left: Verification


def repair(
    path: str, encoder: Callable[[], Encoder], *, wait: bool = False, progress: Tell | None = None
) -> RepairReport:
    """Repair the collection at ``path``; where all is whole, nothing is changed.

    Args:
        path: its folder.
        encoder: gives the collection's encoder; asked for only where something is to be embedded.
        wait: wait for another writer instead of raising LockedError.
        progress: hears how far it is.

    Raises:
        CollectionNotFoundError: there is none.
        CorruptShardError: no manifest can be read.
        LockedError: another process is writing.
        StorageError: the disk is full or cannot be written.
    """
    path = os.path.abspath(path)
    done = mend_store(path, wait=wait)
    store = Store.open(path)
    embedded = _embed_again(store, encoder, done.paths, wait, done.notes) if done.paths else 0
    if done.lost > len(done.paths):
        done.notes.append(
            "Index the folders and captions of this collection again: not all lost rows have a known file."
        )
    kinds = {one.kind for one in verify(path).damages}
    if "stamps" in kinds:
        os.unlink(os.path.join(path, NOTES))
        done.made.append(NOTES)
    if "columns" in kinds:
        os.unlink(os.path.join(path, PACKS, CURRENT))
        update_packs(store.snapshot())
        done.made.append(PACKS)
    if "ledger" in kinds:
        _mend_ledger(path, done.notes)
        done.made.append("generated/ledger.check")
    if "generated" in kinds:
        done.moved += _move_pictures(path)
    for kind in [kind for kind, folder in INDEX_FOLDERS.items() if folder in kinds]:
        from clipsearch.flows.build import update_index

        done.made.append(update_index(store, encoder, kind=kind, retrain=True, wait=wait, progress=progress).line)
    if CALIBRATION in kinds:
        from clipsearch.flows.calibrate import renew

        withdraw_calibration(path)
        renew(store, encoder(), progress, force=True)
        done.made.append(CALIBRATION)
    if done.went_back:  # what was derived from versions that are gone names numbers that will be used again
        withdraw_calibration(path)
        withdraw_augment(path)
    if done.went_back or done.lost:
        from clipsearch.flows.picture_texts import forget_inside

        forget_inside(path)
    if AUGMENT in kinds:
        withdraw_augment(path)
        done.notes.append(
            "What augmented queries was damaged and is out of use: 'clipsearch augment fit' fits it again."
        )
    left = verify(path, progress)
    return RepairReport(tuple(done.made), tuple(done.moved), done.lost, embedded, tuple(done.notes), left)


def _embed_again(
    store: Store, encoder: Callable[[], Encoder], paths: list[tuple[int, bytes]], wait: bool, notes: list[str]
) -> int:
    """Index the pictures of lost rows again, as a list of files; returns how many are there again."""
    from clipsearch.flows.ingest import ingest

    snapshot = store.snapshot()
    given = {root.id for root in snapshot.manifest.roots if root.is_given}
    files = [os.path.join(snapshot.root_path(root), name) for root, name in paths if root not in given]
    there = [file for file in files if os.path.exists(file)]
    if len(there) < len(paths):
        notes.append(f"{len(paths) - len(there):,} lost pictures are not where they were, or came as ready embeddings.")
    for file in [file for file in files if not os.path.exists(file)][:20]:
        notes.append(f"not there: {os.fsdecode(file)}")
    if not there:
        return 0
    report = ingest(store, encoder(), "-", stdin=io.BytesIO(b"\0".join(there) + b"\0"), wait=wait)
    return report.embedded + report.reused


def _mend_ledger(path: str, notes: list[str]) -> None:
    """Keep a copy of the ledger as it is, and go on with it: rows that cannot be read are passed over."""
    ledger = GeneratedFolder(path).ledger
    os.makedirs(os.path.join(path, DAMAGED), DIR_MODE, exist_ok=True)
    if os.path.exists(ledger.path):
        shutil.copy2(ledger.path, os.path.join(path, DAMAGED, f"ledger.{os.path.getmtime(ledger.path):.0f}.jsonl"))
        ledger.keep_readable()
        notes.append("The ledger of generated pictures was damaged; rows that cannot be read are in damaged/ only.")
    else:
        os.unlink(ledger.check_path)
        notes.append("The ledger of generated pictures is gone, and nothing else says what was in it.")


def _move_pictures(path: str) -> list[str]:
    names = [one.name for one in verify(path).damages if one.kind == "generated"]
    os.makedirs(os.path.join(path, DAMAGED), DIR_MODE, exist_ok=True)
    for name in names:
        os.replace(os.path.join(path, name), os.path.join(path, DAMAGED, os.path.basename(name)))
    return names
