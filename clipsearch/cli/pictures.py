"""Thumbnails of hits for ``search --preview`` and ``--contact-sheet``.

The files go through the same supervised decode workers as in an index run: upright, any format, and a file that has
turned bad since it was indexed becomes a grey tile instead of an end of the program.
"""

import os
import tarfile
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from clipsearch.cli.writing import put_in_place
from clipsearch.decode import DecodePool, DecodeRequest
from clipsearch.embed.preprocess import Preprocess
from clipsearch.errors import InputError
from clipsearch.present.generated import BADGE
from clipsearch.present.thumbnail import Thumbnail
from clipsearch.types import Decoded, GeneratedImage, Hit, ImageRef, Pixels, SearchResult

if TYPE_CHECKING:
    from PIL import Image

    from clipsearch import Skip

SIZE = 220  # pixels, the longer side


def thumbnails(result: SearchResult) -> list[Thumbnail]:
    """Return the hits as small pictures, in their order; captions come with the pictures they belong to."""
    return hit_thumbnails(result.plain)


def hit_thumbnails(hits: Sequence[Hit]) -> list[Thumbnail]:
    """Return hits as small pictures."""
    refs = {hit.id: find_file(hit.path) for hit in hits}
    preprocess = Preprocess(size=SIZE, mode="longest", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), fill=255)
    readable = [ref for ref in refs.values() if not isinstance(ref, str)]
    with DecodePool(preprocess, workers=min(2, max(1, len(readable)))) as pool:
        decoded = pool.run(DecodeRequest(ref) for ref in readable)
        return [_thumbnail(hit, refs[hit.id], decoded) for hit in hits]


def _thumbnail(hit: Hit, ref: "ImageRef | str", decoded: "Iterator[object]") -> Thumbnail:
    title, name = f"{hit.rank}  {hit.score:.3f}", os.path.basename(hit.path)
    badge = BADGE if hit.metadata.get("generated") else ""
    if isinstance(ref, str):
        return Thumbnail(title, name, reason=ref, badge=badge)
    answer = next(decoded)
    if isinstance(answer, Decoded):
        return Thumbnail(title, name, _unpadded(answer), badge=badge)
    skip: Skip = answer  # pyright: ignore[reportAssignmentType]
    reason = f"{str(skip.reason).replace('_', ' ')}: {skip.detail}".rstrip(": ")
    return Thumbnail(title, name, reason=reason, badge=badge)


def generated_thumbnail(image: GeneratedImage) -> Thumbnail:
    """Return a generated picture as a small picture with a badge, and without rank or score."""
    import io

    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(image.png), formats=["PNG"]) as picture:
        picture.thumbnail((SIZE, SIZE))
        pixels = np.asarray(picture.convert("RGB"))
    return Thumbnail(f"{BADGE} by {image.generator}", os.path.basename(image.path or ""), pixels, badge=BADGE)


def _unpadded(image: Decoded) -> Pixels:
    """Cut away the borders that made the picture a square."""
    width, height = image.metadata.width, image.metadata.height
    w = max(1, round(SIZE * width / max(width, height)))
    h = max(1, round(SIZE * height / max(width, height)))
    x, y = (SIZE - w) // 2, (SIZE - h) // 2
    return image.pixels[y : y + h, x : x + w]


def find_file(path: str) -> "ImageRef | str":
    """Return where a hit's picture lies now, or why it cannot be shown."""
    if not path:
        return "this caption belongs to no picture"
    try:
        if os.path.exists(path) or "::" not in path:
            return _ref(path, os.stat(path))
        return _member_ref(path)
    except FileNotFoundError:
        return "the file is gone"
    except (OSError, tarfile.TarError, KeyError) as problem:
        return f"cannot be read: {problem}"


def _ref(path: str, stat: os.stat_result, member: bytes | None = None, offset: int = 0, size: int = -1) -> ImageRef:
    folder, name = os.path.split(os.fsencode(os.path.abspath(path)))
    size = stat.st_size if size < 0 else size
    return ImageRef(folder, name, member, size, stat.st_mtime_ns, stat.st_ctime_ns, offset)


def _member_ref(path: str) -> ImageRef:
    """Find a tar's member by its header; the rows do not keep where in the tar it lies."""
    archive, _, member = path.partition("::")
    with tarfile.open(archive, "r:", errors="surrogateescape") as tar:
        info = tar.getmember(member)
    return _ref(archive, os.stat(archive), os.fsencode(member), info.offset_data, info.size)


def write_sheet(path: str, pictures: Sequence[Thumbnail], heading: str) -> None:
    """Write the contact sheet.

    Raises:
        InputError: it cannot be written.
    """
    from clipsearch.present.contact_sheet import contact_sheet

    _write_page(path, contact_sheet(pictures, heading))


def write_groups(path: str, groups: Sequence[tuple[str, Sequence[Hit]]], heading: str) -> None:
    """Write a contact sheet of hits in groups with titles; all files are opened by one pool of workers.

    Raises:
        InputError: it cannot be written.
    """
    from clipsearch.present.contact_sheet import grouped_sheet

    pictures = iter(hit_thumbnails([hit for _, hits in groups for hit in hits]))
    laid_out = [(title, [next(pictures) for _ in hits]) for title, hits in groups]
    _write_page(path, grouped_sheet(laid_out, heading))


def _write_page(path: str, page: "Image.Image") -> None:
    from clipsearch.present.contact_sheet import encode_png

    try:
        put_in_place(path, encode_png(page))
    except OSError as problem:
        raise InputError(f"The contact sheet {path} cannot be written: {problem.strerror}.") from None


def preview_lines(pictures: Sequence[Thumbnail], width: int) -> Iterator[str]:
    """Yield the lines that show the pictures in this terminal."""
    from clipsearch.present.preview import preview

    return preview(pictures, width, truecolour=os.environ.get("COLORTERM") in ("truecolor", "24bit"))
