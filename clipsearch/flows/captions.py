"""Captions beside pictures: read a table of image and caption, embed what is new, keep links to pictures that moved."""

import csv
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from clipsearch.embed.base import Encoder
from clipsearch.errors import InputError, SourceNotFoundError
from clipsearch.flows.progress import Progress
from clipsearch.store import KnownText, Snapshot, Store, TextRow, Writer
from clipsearch.types import display_path

_BATCH = 256


@dataclass(frozen=True, slots=True)
class CaptionCounts:
    """New caption rows, how many of them went through the text tower, and what a person should know."""

    rows: int = 0
    embedded: int = 0
    notes: tuple[str, ...] = ()

    def __add__(self, other: "CaptionCounts") -> "CaptionCounts":
        return CaptionCounts(self.rows + other.rows, self.embedded + other.embedded, self.notes + other.notes)


@dataclass
class ImagePlaces:
    """Finds the row of a picture that a caption file names: by path, tar member, or base name that only one has."""

    by_place: dict[bytes, int] = field(default_factory=dict)
    by_member: dict[bytes, int | None] = field(default_factory=dict)
    by_name: dict[bytes, int | None] = field(default_factory=dict)

    @classmethod
    def of(cls, snapshot: Snapshot) -> "ImagePlaces":
        """Read the places of all live pictures."""
        places = cls()
        roots = {root.id: snapshot.root_path(root.id) for root in snapshot.manifest.roots}
        for row in snapshot.known_files():
            file = os.path.join(roots[row.root], row.path)
            name = row.path if row.member is None else row.member
            places.by_place[file if row.member is None else file + b"::" + row.member] = row.id
            if row.member is not None:
                places.by_member[row.member] = None if row.member in places.by_member else row.id
            base = os.path.basename(name)
            places.by_name[base] = None if base in places.by_name else row.id
        return places

    def find(self, value: bytes, folders: Iterable[bytes]) -> int | None:
        """Return the row id for an image value as a caption file gives it, or None."""
        for folder in folders:
            found = self.by_place.get(os.path.normpath(os.path.join(folder, value)))
            if found is not None:
                return found
        member = self.by_member.get(value)
        return member if member is not None else self.by_name.get(os.path.basename(value))


def read_pairs(path: str | os.PathLike[str]) -> Iterator[tuple[str, str]]:
    """Yield (image, caption) from a CSV with these columns; rows without a caption are left out.

    Raises:
        SourceNotFoundError: there is no such file.
        InputError: it is no CSV in UTF-8 with the columns image and caption.
    """
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            if not {"image", "caption"} <= set(columns):
                raise InputError(
                    f"{path} has no columns image and caption, but {', '.join(columns) or 'none'}.\n"
                    "The first line must name them: image,caption"
                )
            for row in reader:
                image, caption = row["image"], _clean(row["caption"] or "")
                if image and caption:
                    yield image, caption
    except FileNotFoundError as problem:
        raise SourceNotFoundError(f"There is no caption file {path}.") from problem
    except (OSError, csv.Error) as problem:
        raise InputError(f"{path} cannot be read as a CSV of captions: {problem}.") from problem


def _clean(text: str) -> str:
    """Return a caption as it can be stored: bytes that are no UTF-8 as ``\\xNN``, no blanks around."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").strip()


def ingest_captions(
    store: Store,
    writer: Writer,
    encoder: Encoder,
    captions: str | os.PathLike[str],
    root: bytes,
    tell: Callable[[Progress], None],
) -> CaptionCounts:
    """Add the captions that the collection does not hold yet; those it holds are not embedded again."""
    snapshot = store.snapshot()
    places = ImagePlaces.of(snapshot)
    folders = (root, os.path.dirname(os.path.abspath(os.fsencode(captions))))
    known = {(text.source, text.text): text for text in snapshot.captions()}
    new: list[tuple[bytes, str, int | None]] = []
    linked: list[tuple[KnownText, int]] = []
    missing: dict[str, None] = {}
    for image, caption in dict.fromkeys(read_pairs(captions)):
        source = os.fsencode(image)
        image_id = places.find(source, folders)
        if image_id is None:
            missing.setdefault(image)
        text = known.get((source, caption))
        if text is None:
            new.append((source, caption, image_id))
        elif image_id is not None and text.image_id != image_id:
            linked.append((text, image_id))
    _add_new(writer, encoder, new, tell)
    moved = _relink(store, writer, linked, ())
    notes = (_missing_note(missing),) if missing else ()
    return CaptionCounts(len(new) + moved.rows, len(new), notes)


def _missing_note(missing: Mapping[str, None]) -> str:
    names = ", ".join(display_path(os.fsencode(name)) for name in list(missing)[:3])
    more = f" and {len(missing) - 3:,} more" if len(missing) > 3 else ""
    return (
        f"Captions name pictures that the collection does not hold: {names}{more}. "
        "Their texts are kept without a picture."
    )


def _add_new(
    writer: Writer,
    encoder: Encoder,
    new: Sequence[tuple[bytes, str, int | None]],
    tell: Callable[[Progress], None],
) -> None:
    for start in range(0, len(new), _BATCH * 8):
        rows: list[TextRow] = []
        for offset in range(start, min(start + _BATCH * 8, len(new)), _BATCH):
            part = new[offset : offset + _BATCH]
            embeddings = encoder.encode_texts([caption for _, caption, _ in part])
            ids = writer.new_ids(len(part))
            rows += [
                TextRow(id=id_, image_id=image_id, text=caption, source=source, embedding=embedding)
                for id_, (source, caption, image_id), embedding in zip(ids, part, embeddings, strict=True)
            ]
            tell(Progress("captions", offset + len(part), len(new)))
        writer.commit(texts=rows)


def relink_captions(store: Store, writer: Writer, moved: Mapping[int, int], dropped: set[int]) -> CaptionCounts:
    """Hand the captions of replaced rows to their successors; those of deleted pictures go with them."""
    if not moved and not dropped:
        return CaptionCounts()
    linked: list[tuple[KnownText, int]] = []
    gone: list[int] = []
    for text in store.snapshot().captions():
        if text.image_id is None:
            continue
        if text.image_id in moved:
            linked.append((text, moved[text.image_id]))
        elif text.image_id in dropped:
            gone.append(text.id)
    return _relink(store, writer, linked, gone)


def _relink(
    store: Store, writer: Writer, linked: Sequence[tuple[KnownText, int]], gone: Sequence[int]
) -> CaptionCounts:
    """Write the captions again under their new picture, embeddings taken over."""
    if not linked and not gone:
        return CaptionCounts()
    old = [text.id for text, _ in linked]
    embeddings = store.snapshot().embeddings("texts", old) if old else ()
    rows = [
        TextRow(id=id_, image_id=image_id, text=text.text, source=text.source, embedding=embedding)
        for id_, (text, image_id), embedding in zip(writer.new_ids(len(linked)), linked, embeddings, strict=True)
    ]
    writer.commit(texts=rows, deleted=[*old, *gone])
    return CaptionCounts(rows=len(rows))
