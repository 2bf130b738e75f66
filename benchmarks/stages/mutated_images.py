"""Mutated pictures through the decoder: whether a worker dies of one, an exception escapes, or one takes too long.

    python benchmarks/stages/mutated_images.py WORK [--count 1000000] [--seed 1] [--jobs 2] [--data FOLDER]
        [--out benchmarks/results/mutated_images.jsonl]

Small pictures of every allowed format, made here (and the sound ones of ``badimages`` below FOLDER, or below
CLIPSEARCH_TEST_DATA), are changed: flipped bits, boundary bytes and integers, lengths in headers, truncation, blocks
repeated, dropped and spliced; where a PNG's checksums would hide the change they are made right again. Each goes
through the supervised workers with the limits that an index run has. Which picture a number gives depends on the seed
(and on the seeds' files) alone.

One that takes longer than its limit is tried once more, alone: a picture of 89 megapixels costs a second or two, and on
a busy machine ten. Parts of 5,000 pictures are noted in WORK/parts-SEED.jsonl as they are finished, and a run goes on
after the last; what killed a worker, took too long or raised lies in WORK as it was. The last line of output sums up
all parts.
"""

import argparse
import io
import json
import os
import random
import re
import struct
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

sys.path.insert(0, str(Path(__file__).parent.parent))
from results import append, machine

from clipsearch.decode import DecodeLimits, DecodePool, DecodeRequest, Hashed
from clipsearch.decode.image import open_image
from clipsearch.embed import load_encoder
from clipsearch.types import Decoded, ImageRef, Skip, SkipReason

PART = 5000
SMALL, PIXELS = 20_000, 250_000  # bytes and pixels of a seed, at most; small ones reach more code a second
_PNG = b"\x89PNG\r\n\x1a\n"
_INTEGERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_ESCAPED = re.compile(
    r"^\w*(Error|Exception|Warning|Interrupt): "
)  # as the worker tells of what decode_image let through


# seeds


def picture(side: int = 40) -> Image.Image:
    """Return a colourful picture with smooth and with noisy parts."""
    rows, columns = np.mgrid[0:side, 0:side]
    noise = np.random.default_rng(side).integers(0, 60, (side, side))
    planes = [rows * 255 // side, columns * 255 // side, (rows + columns) * 3 % 200 + noise]
    return Image.fromarray(np.stack(planes, -1).astype(np.uint8))


def exif() -> Image.Exif:
    found = Image.Exif()
    found[0x0112], found[0x010F], found[0x0110] = 6, "Maker", "Model"
    found.get_ifd(0x8769)[0x9003] = "2024:02:29 12:34:56"
    found.get_ifd(0x8825).update({1: "S", 2: (33.0, 30.0, 0.0), 3: "E", 4: (151.0, 15.0, 36.0)})
    return found


def seeds(data: Path | None) -> list[bytes]:
    """Return sound files of all formats."""
    rgb, text = picture(), PngImagePlugin.PngInfo()
    text.add_text("parameters", "Steps: 20, Sampler: x", zip=True)
    text.add_itxt("Comment", "text", zip=True)
    frames = [picture(side).resize((40, 40)) for side in (40, 30, 20)]
    animated = {"save_all": True, "append_images": frames[1:], "duration": 40}
    deep = Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) * 257)
    kinds: list[tuple[Image.Image, str, dict[str, object]]] = [
        (rgb, "JPEG", {"quality": 85}),
        (rgb, "JPEG", {"quality": 90, "progressive": True, "subsampling": 0, "exif": exif()}),
        (rgb, "JPEG", {"quality": 80, "restart_marker_blocks": 2, "optimize": True, "comment": b"a comment"}),
        (rgb.convert("L"), "JPEG", {}),
        (rgb.convert("CMYK"), "JPEG", {"progressive": True}),
        (rgb, "PNG", {"pnginfo": text, "exif": exif()}),
        (rgb.convert("RGBA"), "PNG", {"optimize": True}),
        (rgb.convert("LA"), "PNG", {}),
        (rgb.quantize(16), "PNG", {"transparency": 3, "bits": 4}),
        (rgb.convert("1"), "PNG", {}),
        (deep, "PNG", {}),
        (frames[0], "PNG", animated),
        (rgb.quantize(64), "GIF", {"interlace": 1, "transparency": 5}),
        (frames[0], "GIF", animated),
        (rgb, "WEBP", {"quality": 70, "exif": exif()}),
        (rgb.convert("RGBA"), "WEBP", {"lossless": True}),
        (frames[0], "WEBP", animated),
        (rgb, "BMP", {}),
        (rgb.convert("RGBA"), "BMP", {}),
        (rgb.quantize(256), "BMP", {}),
        (rgb.convert("1"), "BMP", {}),
        *(
            (rgb, "TIFF", {"compression": name})
            for name in ("raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")
        ),
        (rgb.convert("1"), "TIFF", {"compression": "group4"}),
        (rgb.convert("CMYK"), "TIFF", {"compression": "tiff_lzw", "exif": exif()}),
        (deep, "TIFF", {}),
        (rgb.convert("F"), "TIFF", {}),
        (frames[0], "TIFF", {"save_all": True, "append_images": frames[1:]}),
        (rgb, "AVIF", {"quality": 60}),
        (rgb.convert("RGBA"), "AVIF", {"quality": 60}),
    ]
    found = [saved(*kind) for kind in kinds] + heif_seeds(rgb)
    if data is not None:
        rows = [json.loads(line) for line in (data / "badimages" / "manifest.jsonl").read_text("utf-8").splitlines()]
        files = [data / "badimages" / "files" / row["file"] for row in rows if row["expected"] == "ok"]
        found += [data for data in (file.read_bytes() for file in files) if is_small(data)]
    return found


def is_small(data: bytes) -> bool:
    """Tell whether a sound file is small on the disk and as a picture."""
    if len(data) > SMALL:
        return False
    with open_image(data, DecodeLimits()) as image:
        return image.width * image.height <= PIXELS


def saved(image: Image.Image, kind: str, options: dict[str, object]) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)  # pyright: ignore[reportArgumentType]
    return buffer.getvalue()


def heif_seeds(rgb: Image.Image) -> list[bytes]:
    try:
        import pillow_heif
    except ImportError:
        return []
    pillow_heif.register_heif_opener()
    return [saved(rgb, "HEIF", {"quality": 60}), saved(rgb.convert("RGBA"), "HEIF", {"quality": 60, "exif": exif()})]


# mutations: each changes a bytearray in place


def flip_bit(data: bytearray, chance: random.Random, _: list[bytes]) -> None:
    place = chance.randrange(len(data))
    data[place] ^= 1 << chance.randrange(8)


def set_byte(data: bytearray, chance: random.Random, _: list[bytes]) -> None:
    data[chance.randrange(len(data))] = chance.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF, chance.randrange(256)))


def set_integer(data: bytearray, chance: random.Random, _: list[bytes], place: int | None = None) -> None:
    """Write a boundary value, or one near the value that is there, as an integer of 2 or 4 bytes of either order."""
    size, order = chance.choice((2, 4)), chance.choice(("little", "big"))
    at = chance.randrange(max(1, len(data) - size)) if place is None else min(place, max(0, len(data) - size))
    value = chance.choice(_INTEGERS)
    if chance.random() < 0.4:
        value = int.from_bytes(data[at : at + size], order) + chance.choice((-2, -1, 1, 2, 255, 65535))
    data[at : at + size] = (value & ((1 << 8 * size) - 1)).to_bytes(size, order)  # pyright: ignore[reportArgumentType]


def set_header(data: bytearray, chance: random.Random, all_: list[bytes]) -> None:
    """Change a number among the first bytes, where sizes and counts stand."""
    set_integer(data, chance, all_, chance.randrange(4, 64))


def set_length(data: bytearray, chance: random.Random, all_: list[bytes]) -> None:
    """Change a length, or the type beside it, where the format keeps one: a chunk, a marker segment, a directory."""
    places = lengths(data)
    set_integer(data, chance, all_, chance.choice(places) if places else None)


def truncate(data: bytearray, chance: random.Random, _: list[bytes]) -> None:
    del data[chance.randrange(1, len(data) + 1) :]


def drop(data: bytearray, chance: random.Random, _: list[bytes]) -> None:
    place = chance.randrange(len(data))
    del data[place : place + chance.choice((1, 2, 4, 16, 256))]


def repeat(data: bytearray, chance: random.Random, _: list[bytes]) -> None:
    place = chance.randrange(len(data))
    block = data[place : place + chance.choice((1, 4, 16, 64, 512))]
    data[place:place] = block * chance.choice((1, 2, 8))


def insert(data: bytearray, chance: random.Random, _: list[bytes]) -> None:
    place = chance.randrange(len(data))
    data[place:place] = chance.randbytes(chance.choice((1, 2, 4, 32)))


def splice(data: bytearray, chance: random.Random, all_: list[bytes]) -> None:
    """Go on as another file does, or take a piece of it."""
    other = chance.choice(all_)
    place, at = chance.randrange(len(data)), chance.randrange(len(other))
    if chance.random() < 0.5:
        data[place:] = other[at:]
    else:
        piece = other[at : at + chance.choice((8, 64, 512))]
        data[place : place + len(piece)] = piece


MUTATIONS: tuple[Callable[[bytearray, random.Random, list[bytes]], None], ...] = (
    flip_bit, flip_bit, set_byte, set_byte, set_integer, set_header, set_length, set_length, truncate, drop, repeat,
    insert, splice,
)  # fmt: skip


def lengths(data: bytearray) -> list[int]:
    """Return where lengths, counts and types stand in a file."""
    if data.startswith(_PNG):
        return [place for start, _, _ in png_chunks(data) for place in (start, start + 4, start + 8, start + 12)]
    if data.startswith(b"\xff\xd8"):
        return [match.start() + 2 for match in re.finditer(rb"\xff[\xc0-\xcf\xda-\xef\xfe]", bytes(data))]
    if data[:4] in (b"II*\0", b"MM\0*") and len(data) > 16:
        order = "<" if data[:2] == b"II" else ">"
        start = min(struct.unpack_from(order + "I", data, 4)[0], len(data) - 2)
        n = min(struct.unpack_from(order + "H", data, start)[0], 64)
        return [4, start, *(start + 2 + 12 * entry + field for entry in range(n) for field in (0, 2, 4, 8))]
    if data.startswith(b"RIFF"):
        return [4, *(match.start() + 4 for match in re.finditer(rb"VP8[ LX]|ALPH|ANMF|ANIM|EXIF", bytes(data)))]
    if data[4:8] == b"ftyp":
        boxes = rb"ftyp|meta|iloc|iinf|infe|iprp|ipco|ipma|ispe|pixi|av1C|hvcC|colr|irot|imir|pitm|iref|mdat|auxC"
        return [place for match in re.finditer(boxes, bytes(data)) for place in (match.start() - 4, match.start() + 8)]
    return []


def png_chunks(data: bytearray) -> Iterator[tuple[int, int, bytes]]:
    """Yield the start, the length and the type of each chunk."""
    at = len(_PNG)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if at + 12 + length > len(data):
            return
        yield at, length, kind
        at += 12 + length


def mend_png(data: bytearray) -> None:
    """Make the checksums of all chunks right: behind a wrong one no decoder looks."""
    for start, length, _ in list(png_chunks(data)):
        struct.pack_into(">I", data, start + 8 + length, zlib.crc32(data[start + 4 : start + 8 + length]))


def mutated(seed: int, number: int, all_: list[bytes]) -> bytes:
    """Return one picture; the same for the same seed and number."""
    chance = random.Random(seed << 40 | number)
    data = bytearray(chance.choice(all_))
    for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 5, 8))):
        if data:
            chance.choice(MUTATIONS)(data, chance, all_)
    if data.startswith(_PNG) and chance.random() < 0.7:
        mend_png(data)
    return bytes(data)


# runs


def run_part(part: int, options: argparse.Namespace, all_: list[bytes]) -> dict[str, object]:
    """Decode one part by a worker of its own, and return what became of its pictures."""
    numbers = range(part * PART, min((part + 1) * PART, options.count))
    outcomes: Counter[str] = Counter()
    offenders: list[dict[str, object]] = []
    longest, late, start = 0.0, 0, time.monotonic()
    requests = (request(mutated(options.seed, number, all_)) for number in numbers)
    with DecodePool(load_encoder("hashing").preprocess, workers=1, lookahead=4) as pool:
        before = None  # the first waits for the worker to start
        for number, result in zip(numbers, pool.run(requests), strict=True):
            now = time.monotonic()
            longest = max(longest, 0.0 if before is None else now - before)
            before = now
            if trouble_of(result) == "over time":  # on a busy machine a large picture may be: once more, alone
                late += 1
                result = alone(mutated(options.seed, number, all_))
            outcomes[str(result.reason) if isinstance(result, Skip) else "ok"] += 1
            trouble = trouble_of(result)
            if trouble is not None and isinstance(result, Skip):
                offenders.append({"number": number, "trouble": trouble, "detail": result.detail})
                (options.work / f"offender-{options.seed}-{number}").write_bytes(mutated(options.seed, number, all_))
    return {
        "part": part,
        "n": len(numbers),
        "outcomes": dict(outcomes),
        "offenders": offenders,
        "late": late,
        "longest": round(longest, 3),
        "seconds": round(time.monotonic() - start, 2),
    }


def request(data: bytes) -> DecodeRequest:
    return DecodeRequest(ImageRef(b"/", b"mutated", None, 1, 0, 0), data=data)


def alone(data: bytes) -> Decoded | Hashed | Skip:
    """Decode a picture by a worker that has nothing else to do."""
    with DecodePool(load_encoder("hashing").preprocess, workers=1) as pool:
        return next(pool.run([request(data)]))


def trouble_of(result: object) -> str | None:
    """Return what went wrong beyond a picture that is skipped; None where nothing did."""
    if not isinstance(result, Skip):
        return None
    if result.reason == SkipReason.DECODE_CRASH:
        return "crash"
    if result.reason == SkipReason.DECODE_TIMEOUT and "scans" not in result.detail:  # those are counted, not decoded
        return "over time"
    return "escaped" if _ESCAPED.match(result.detail) else None


def finished(file: Path, count: int) -> dict[int, dict[str, object]]:
    """Return the parts that earlier runs noted and that are of the length that this run wants."""
    if not file.exists():
        return {}
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines() if line.endswith("}")]
    return {one["part"]: one for one in lines if one["n"] == min(PART, count - one["part"] * PART)}


def summary(parts: list[dict[str, object]], options: argparse.Namespace, n_seeds: int) -> dict[str, object]:
    outcomes: Counter[str] = Counter()
    troubles: Counter[str] = Counter()
    for part in parts:
        outcomes.update(part["outcomes"])  # pyright: ignore[reportCallIssue, reportArgumentType]
        troubles.update(one["trouble"] for one in part["offenders"])  # pyright: ignore[reportGeneralTypeIssues]
    seconds = sum(part["seconds"] for part in parts)  # pyright: ignore[reportCallIssue, reportArgumentType]
    return {
        "stage": "mutated_images",
        "count": sum(outcomes.values()),
        "seed": options.seed,
        "seeds": n_seeds,
        "outcomes": dict(outcomes.most_common()),
        "crashes": troubles["crash"],
        "escaped": troubles["escaped"],
        "over_time": troubles["over time"],
        "over_time_but_not_alone": sum(part["late"] for part in parts) - troubles["over time"],  # pyright: ignore[reportCallIssue, reportArgumentType, reportOperatorIssue]
        "longest_seconds": max(part["longest"] for part in parts),  # pyright: ignore[reportArgumentType]
        "worker_seconds": round(seconds, 1),
        "a_second_and_worker": round(sum(outcomes.values()) / seconds),
        "date": time.strftime("%Y-%m-%d"),
        **machine(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--data", type=Path, default=os.environ.get("CLIPSEARCH_TEST_DATA"))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    all_ = seeds(None if options.data is None else Path(options.data))
    file = options.work / f"parts-{options.seed}.jsonl"
    parts = finished(file, options.count)
    left = [part for part in range((options.count + PART - 1) // PART) if part not in parts]
    print(f"{len(all_)} seeds, {len(parts)} parts of {PART:,} done before, {len(left)} to do", flush=True)
    with ThreadPoolExecutor(options.jobs) as pool, file.open("a", encoding="utf-8") as notes:
        for done in pool.map(lambda part: run_part(part, options, all_), left):
            parts[int(str(done["part"]))] = done
            notes.write(json.dumps(done) + "\n")
            notes.flush()
    line = summary(list(parts.values()), options, len(all_))
    if options.out is not None:
        append(options.out, line)
    print(json.dumps(line))
    if line["crashes"] or line["escaped"] or line["over_time"]:
        sys.exit(f"There was trouble; the pictures lie in {options.work}")


if __name__ == "__main__":
    main()
