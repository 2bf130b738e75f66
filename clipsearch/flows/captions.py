"""Texts of a collection: read them from files and pictures, embed what is new, keep links to pictures that moved."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from clipsearch.embed.base import Encoder
from clipsearch.flows.progress import Progress
from clipsearch.flows.text_origins import Found, Origins, Told, as_stored, changes, origins_of
from clipsearch.scan.captions import Problems, read_texts
from clipsearch.store import KnownText, Snapshot, Store, TextRow, Writer
from clipsearch.types import display_path

_BATCH = 256
FROM_PICTURES = ("sidecars", "embedded")
"""Texts that lie beside pictures, or inside them, in place of a caption file."""


@dataclass(frozen=True, slots=True)
class CaptionCounts:
    """New caption rows, how many of them went through the text tower, and what a person should know."""

    rows: int = 0
    embedded: int = 0
    notes: tuple[str, ...] = ()


@dataclass
class ImagePlaces:
    """Finds the row of a picture that a caption file names: by path, tar member, or base name that only one has."""

    by_place: dict[bytes, int] = field(default_factory=dict)
    by_member: dict[bytes, int | None] = field(default_factory=dict)
    by_name: dict[bytes, tuple[int, bytes, bytes] | None] = field(default_factory=dict)  # row id, place, path

    @classmethod
    def of(cls, snapshot: Snapshot) -> "ImagePlaces":
        """Read the places of all live pictures."""
        places = cls()
        roots = {root.id: snapshot.root_path(root.id) for root in snapshot.manifest.roots}
        for row in snapshot.known_files():
            file = os.path.join(roots[row.root], row.path)
            name, place = (row.path, file) if row.member is None else (row.member, os.path.join(file, row.member))
            places.by_place[file if row.member is None else file + b"::" + row.member] = row.id
            if row.member is not None:
                places.by_member[row.member] = None if row.member in places.by_member else row.id
            base = os.path.basename(name)
            places.by_name[base] = None if base in places.by_name else (row.id, place, name)
        return places

    def find(self, value: bytes, folders: Iterable[bytes]) -> int | None:
        """Return the row id for an image value as a caption file gives it, or None."""
        for folder in folders:
            found = self.by_place.get(os.path.normpath(os.path.join(folder, value)))
            if found is not None:
                return found
        member = self.by_member.get(value)
        return member if member is not None else self._by_base_name(value)

    def _by_base_name(self, value: bytes) -> int | None:
        """Find the only picture of this base name, unless folders speak against it: 2019/a.jpg is not 2020/a.jpg."""
        only = self.by_name.get(os.path.basename(value))
        if only is None:
            return None
        row_id, place, name = only
        value = os.path.normpath(value).lstrip(b"/")
        return row_id if place.endswith(b"/" + value) or (b"/" + value).endswith(b"/" + name) else None


def read_pairs(path: str | os.PathLike[str], problems: Problems | None = None) -> Iterator[tuple[str, str]]:
    """Yield (image, caption) from a file of captions; texts without an image are left out.

    ``problems`` is told of lines that cannot be read.

    Raises:
        SourceNotFoundError: there is no such file.
        InputError: it cannot be read, or nothing in it is called a caption.
    """
    return ((said.image, said.text) for said in read_texts(path, problems) if said.image is not None)


Sources = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def sources_of(captions: Sources) -> list[str]:
    """Return what texts are to be read from: paths, and the words "sidecars" and "embedded"."""
    several = [captions] if isinstance(captions, str | os.PathLike) else list(captions)
    return [os.fspath(source) for source in several]


def check_captions(captions: Sources) -> None:
    """Look at the beginning of caption files; raises as ``read_texts`` does."""
    for source in sources_of(captions):
        if source not in FROM_PICTURES:
            next(read_texts(source), None)


def ingest_captions(
    store: Store,
    writer: Writer,
    encoder: Encoder,
    captions: Sources,
    root: bytes,
    tell: Callable[[Progress], None],
    *,
    with_pictures_only: bool = False,
) -> CaptionCounts:
    """Bring the texts of some sources up to date; those that the collection holds are not embedded again.

    A text that a source said and says no more is taken out, unless another source says it; sources that are not given
    are left alone (``text_origins.py``).

    Args:
        store: the collection.
        writer: its writer.
        encoder: its encoder.
        captions: files of captions; the word "sidecars" for texts beside pictures, "embedded" for those inside.
        root: folder that images in caption files may be relative to, and below which pictures are looked at.
        tell: called with how far it is.
        with_pictures_only: pass over captions of pictures that are not in the collection.
    """
    from clipsearch.flows.picture_texts import InsideRead, pictures_told

    snapshot = store.snapshot()
    notes: list[str] = []
    inside = InsideRead.of(snapshot)
    told = [
        pictures_told(snapshot, root, source, notes, tell, inside)
        if source in FROM_PICTURES
        else _file_told(snapshot, source, root, notes, with_pictures_only)
        for source in sources_of(captions)
    ]
    planned = changes(snapshot.captions(), told)
    _add_new(writer, encoder, planned.new, tell)
    if planned.kept or planned.gone:
        kept = _rows_again(store.snapshot(), writer, planned.kept)
        writer.commit(texts=kept, deleted=[*planned.kept, *planned.gone])
    inside.save(store.snapshot())
    if planned.gone:
        notes.append(f"Texts that their source no longer has were taken out: {len(planned.gone):,}.")
    return CaptionCounts(len(planned.new), len(planned.new), tuple(notes))


def _file_told(snapshot: Snapshot, path: str, root: bytes, notes: list[str], with_pictures_only: bool) -> Told:
    """Return what a caption file says; where it is broken, what is missing from it may be in the broken part."""
    problems = Problems()
    found = dict.fromkeys(_from_file(snapshot, path, root, notes, problems, with_pictures_only))
    is_whole = not problems.count

    def is_sure(text: KnownText) -> bool:
        return is_whole and (text.image_id is not None or not with_pictures_only)

    return Told(os.path.abspath(os.fsencode(path)), list(found), is_sure)


def _from_file(
    snapshot: Snapshot, path: str, root: bytes, notes: list[str], problems: Problems, with_pictures_only: bool
) -> Iterator[Found]:
    """Yield the texts of a caption file with the pictures that they are about."""
    places = ImagePlaces.of(snapshot)
    folders = (root, os.path.dirname(os.path.abspath(os.fsencode(path))))
    missing: dict[str, None] = {}
    for said in read_texts(path, problems):
        if said.image is None:
            yield b"", said.text, None
            continue
        source = os.fsencode(said.image)
        image_id = places.find(source, folders)
        if image_id is None:
            if with_pictures_only:
                continue
            missing.setdefault(said.image)
        yield source, said.text, image_id
    notes += problems.notes(path)
    if missing:
        notes.append(_missing_note(missing))


def _missing_note(missing: Mapping[str, None]) -> str:
    names = ", ".join(display_path(os.fsencode(name)) for name in list(missing)[:3])
    more = f" and {len(missing) - 3:,} more" if len(missing) > 3 else ""
    return (
        f"Captions name pictures that the collection does not hold: {names}{more}. "
        "Their texts are kept without a picture."
    )


def _add_new(writer: Writer, encoder: Encoder, new: Mapping[Found, Origins], tell: Callable[[Progress], None]) -> None:
    texts = list(new.items())
    for start in range(0, len(texts), _BATCH * 8):
        rows: list[TextRow] = []
        for offset in range(start, min(start + _BATCH * 8, len(texts)), _BATCH):
            part = texts[offset : offset + _BATCH]
            embeddings = encoder.encode_texts([caption for (_, caption, _), _ in part])
            ids = writer.new_ids(len(part))
            rows += [
                TextRow(id_, image_id, caption, source, embedding, as_stored(origins))
                for id_, ((source, caption, image_id), origins), embedding in zip(ids, part, embeddings, strict=True)
            ]
            tell(Progress("captions", offset + len(part), len(texts)))
        writer.commit(texts=rows)


def captions_by_image(snapshot: Snapshot) -> dict[int, list[int]]:
    """Return the ids of the live captions of each image that has any."""
    found: dict[int, list[int]] = {}
    for text in snapshot.captions():
        if text.image_id is not None:
            found.setdefault(text.image_id, []).append(text.id)
    return found


def hand_over(
    snapshot: Snapshot,
    writer: Writer,
    captions: Mapping[int, Sequence[int]],
    moved: Mapping[int, int],
    gone: Iterable[int],
) -> tuple[list[TextRow], list[int]]:
    """Return what becomes of the captions of images that go: rows under the successor, and the ids that leave.

    Args:
        snapshot: the version that holds the captions.
        writer: gives the new rows their ids.
        captions: image id → ids of its captions.
        moved: image id → id of its successor; the captions of an image without one go with it.
        gone: ids of all images that go.
    """
    left = [(id_, moved.get(image)) for image in gone for id_ in captions.get(image, ())]
    kept = [id_ for id_, image in left if image is not None]
    stored = dict(zip(kept, snapshot.rows("texts", kept), strict=True))
    again = {id_: (image, origins_of(stored[id_]["origins"])) for id_, image in left if image is not None}
    return _rows_again(snapshot, writer, again), [id_ for id_, _ in left]


def _rows_again(snapshot: Snapshot, writer: Writer, again: Mapping[int, tuple[int | None, Origins]]) -> list[TextRow]:
    """Return texts, given by id, as rows of another image or other origins, embeddings taken over."""
    old = list(again)
    stored, embeddings = snapshot.rows("texts", old), snapshot.embeddings("texts", old)
    return [
        TextRow(new, image, row["text"], row["source"], embedding, as_stored(origins))
        for new, (image, origins), row, embedding in zip(
            writer.new_ids(len(old)), again.values(), stored, embeddings, strict=True
        )
    ]
