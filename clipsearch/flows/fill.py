"""The one decision: draw a picture where nothing matches, or not; and what is done with what was drawn.

    off      never
    offer    on the verdict ``none``, say what drawing would use and take; nothing is drawn
    auto     on the verdict ``none``, draw, after the answer was given; never on ``weak`` or ``uncalibrated``
    always   draw, after the answer was given

A generated picture is never a hit. It has a type and a field of its own, no rank and no score that compares with a
hit's; it lies in the collection's folder ``generated/`` and never enters the shards or the index. Whatever goes wrong
while drawing leaves the answer as it was.

What is drawn is drawn several times, and the collection's own encoder chooses the best, or rejects them all. Of a
generator that says itself what it can draw (``generate/scope.py``) a prompt beyond that is rejected before anything is
drawn, and what it then draws is only ranked by the encoder: it knows its few things better than the encoder does.
"""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from clipsearch.embed.base import Encoder
from clipsearch.errors import InputError, RejectedError
from clipsearch.flows.generators import Chosen
from clipsearch.flows.judging import WITHIN_SCOPE, judge, read_by
from clipsearch.generate.base import MAX_SIDE, Options, check_request
from clipsearch.generate.bestofn import LEVEL, Choice
from clipsearch.generate.breaker import Breaker
from clipsearch.generate.cache import ENDING, GeneratedFolder, cache_key
from clipsearch.generate.card import GeneratorCard
from clipsearch.generate.hardware import library_version
from clipsearch.generate.ledger import look_field
from clipsearch.generate.provenance import Origin, encode_png, look, seen
from clipsearch.generate.service import GeneratorService
from clipsearch.generate.signing import PictureSigner
from clipsearch.generate.weights import weights_digest
from clipsearch.types import GeneratedImage, Pixels, SearchResult, Verdict

MODES = ("off", "offer", "auto", "always")
SECONDS = 300.0
_LIBRARIES = {"diffusers": ("diffusers", "torch"), "mini": ("onnxruntime", "numpy")}  # that decide pixels


def decide(mode: str, verdict: Verdict, target: str = "image", has_words: bool = True) -> str:
    """Return what to do after an answer: "nothing", "offer" or "draw". A pure function.

    Args:
        mode: one of ``MODES``.
        verdict: of the answer.
        target: what was looked for; only pictures can be drawn.
        has_words: whether the query has words to draw by.
    """
    if mode not in MODES:
        raise InputError(f"There is no way to fill called {mode!r}. Known: {', '.join(MODES)}.")
    if mode == "off" or target != "image" or not has_words:
        return "nothing"
    if mode == "always":
        return "draw"
    if verdict != Verdict.NONE:
        return "nothing"
    return "draw" if mode == "auto" else "offer"


@dataclass(frozen=True, slots=True)
class Wish:
    """What to draw.

    Attributes:
        prompt: in words.
        n: pictures drawn, of which the best is kept.
        seed: of the first.
        options: everything else that decides the pixels.
        source: (height, width, 3) uint8 to start from, or None.
        with_prompt: write the prompt itself into the file, not only its digest.
        seconds: time that it may take, loading and waiting included.
        signer: signs the picture by C2PA; None leaves it unsigned.
    """

    prompt: str
    n: int
    seed: int = 0
    options: Options = Options()  # noqa: RUF009 (frozen)
    source: Pixels | None = None
    with_prompt: bool = False
    seconds: float = SECONDS
    signer: PictureSigner | None = None


def draw(place: str, encoder: Encoder, chosen: Chosen, service: GeneratorService, wish: Wish) -> GeneratedImage:
    """Draw a picture, or return the one that this very wish was answered with before.

    Args:
        place: the collection's folder.
        encoder: its encoder, which chooses.
        chosen: the generator.
        service: runs it.
        wish: what to draw.

    Raises:
        InputError: the wish makes no sense.
        GenerationError: nothing was drawn; RejectedError: what was drawn does not show it.
    """
    check_request(wish.prompt, wish.n, wish.seed, wish.options)
    words = read_by(chosen, wish.prompt)
    if wish.signer is not None:
        wish.signer.check()  # now, not after minutes of drawing
    folder = GeneratedFolder(place)
    identity = _identity(chosen, encoder, folder)
    written: dict[str, Any] = {"with_prompt": wish.with_prompt}
    if wish.signer is not None:
        written["signed_by"] = wish.signer.digest
    key = cache_key(wish.prompt, wish.n, wish.seed, wish.options, {**identity, **written})
    found = folder.find(key)
    if found is not None:
        return _again(folder, chosen.card, *found)
    folder.check_room()
    start = time.monotonic()
    drawn = service.draw(words, wish.n, wish.seed, wish.options, wish.source, seconds=wish.seconds)
    seconds = round(time.monotonic() - start, 3)
    shown = np.stack([seen(picture, encoder.preprocess) for picture in drawn.pixels])
    choice = judge(encoder, wish.prompt, shown, LEVEL if chosen.scope is None else WITHIN_SCOPE)
    seed = wish.seed + choice.picked
    origin = Origin(
        f"clipsearch {library_version('clipsearch')}".strip(),
        chosen.card.name,
        identity["weights"],
        chosen.card.licence,
        wish.prompt,
        seed,
        wish.options.source,
    )
    data = encode_png(drawn.pixels[choice.picked], origin, wish.with_prompt)
    if wish.signer is not None and not choice.rejected:
        data = wish.signer.sign(data, origin)  # last of all: whatever is written later breaks the signature
    row = {
        **_row(key, wish, chosen, identity, choice, drawn.done),
        "seed": seed,
        "seconds": seconds,
    }
    if words != wish.prompt:
        row["read_as"] = words
    if not choice.rejected:  # what is thrown away need not be recognised
        row |= {"sha256": hashlib.sha256(data).hexdigest(), "look": look_field(look(shown[choice.picked]))}
    path, notes = _keep(folder, row, data, choice.rejected)
    if choice.rejected:
        raise _rejection(row)
    return _image(row, path, data, cached=False, notes=[*_caveats(chosen.card), *notes])


def filled(result: SearchResult, images: Sequence[GeneratedImage], notes: Sequence[str] = ()) -> SearchResult:
    """Return an answer with generated pictures beside its hits, which stay as they were."""
    return replace(result, generated=tuple(images), notes=(*result.notes, *notes))


def make_service(place: str, chosen: Chosen) -> GeneratorService:
    """Return what runs a generator; its failures are remembered beside the collection's generated pictures."""
    return GeneratorService(chosen.setup, _breaker(place))


def check_breaker(place: str) -> None:
    """Refuse to fill where drawing failed several times just now; who asks directly may always try.

    Raises:
        GenerationError: it is to wait.
    """
    _breaker(place).check()


def _breaker(place: str) -> Breaker:
    return Breaker(f"{GeneratedFolder(place).path}/breaker.json")


def read_source(like: Any, options: Options) -> tuple[Pixels, Options]:
    """Return a picture to start from (height, width, 3), cropped to the size wanted, and the options that name it.

    Args:
        like: path, bytes or binary stream of a picture.
        options: size wanted, and the strength.

    Raises:
        QueryImageError: it cannot be read.
    """
    from clipsearch.decode import DecodeLimits, decode_query
    from clipsearch.embed.preprocess import Preprocess

    data = _bytes_of(like)
    side = max(options.width, options.height)
    if not 8 <= side <= MAX_SIDE:
        raise InputError(f"The size is {options.width} x {options.height}; give 8 to {MAX_SIDE} pixels a side.")
    square = decode_query(data, Preprocess(size=side), DecodeLimits())
    y, x = (side - options.height) // 2, (side - options.width) // 2
    source = np.ascontiguousarray(square[y : y + options.height, x : x + options.width])
    return source, replace(options, source=hashlib.sha256(data).hexdigest())


def _bytes_of(like: Any) -> bytes:
    from clipsearch.errors import QueryImageError

    if isinstance(like, bytes):
        return like
    try:
        if hasattr(like, "read"):
            return like.read()
        with open(like, "rb") as file:
            return file.read()
    except OSError as problem:
        raise QueryImageError(f"The picture {like} cannot be read: {problem.strerror}.") from None


def _identity(chosen: Chosen, encoder: Encoder, folder: GeneratedFolder) -> dict[str, str]:
    """Return who draws and who chooses, as far as it decides what comes out."""
    setup = chosen.setup
    memory = f"{folder.path}/digests.json"
    weights = weights_digest(setup.folder, memory) if setup.folder else ""
    libraries = [f"{name} {library_version(name)}" for name in _LIBRARIES.get(chosen.card.family, ())]
    return {
        "generator": chosen.card.name,
        "weights": weights,
        "libraries": ", ".join(libraries),
        "device": setup.device.split(":")[0],
        "dtype": setup.dtype,
        "encoder": encoder.fingerprint(),
    }


def _row(
    key: str, wish: Wish, chosen: Chosen, identity: Mapping[str, str], choice: Choice, done: Sequence[str]
) -> dict[str, Any]:
    """Return what the ledger keeps of a request."""
    return {
        "key": key,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "file": None if choice.rejected else f"{key[:20]}{ENDING}",
        "prompt": wish.prompt,
        "tried": wish.n,
        "first_seed": wish.seed,
        **identity,
        "licence": chosen.card.licence,
        "options": wish.options.as_dict(),
        "parent": wish.options.source,
        "scores": [round(score, 6) for score in choice.scores],
        "p_value": choice.p_value,
        "rejected": choice.rejected,
        "fallbacks": list(done),
        "signed_by": None if wish.signer is None else wish.signer.digest,
    }


def _keep(folder: GeneratedFolder, row: dict[str, Any], data: bytes, rejected: bool) -> tuple[str | None, list[str]]:
    """Keep a picture with its row, as far as the disk lets us; returns where, and what there is to say."""
    notes = [f"Drawn with less than was asked for: {', '.join(row['fallbacks'])}."] if row["fallbacks"] else []
    try:
        return folder.keep(row, b"" if rejected else data), notes
    except OSError as problem:
        return None, [*notes, f"The picture could not be kept in {folder.path}: {problem.strerror or problem}."]


def _again(folder: GeneratedFolder, card: GeneratorCard, row: dict[str, Any], data: bytes) -> GeneratedImage:
    if row["rejected"]:
        raise _rejection(row)
    return _image(row, folder.place(row), data, cached=True, notes=_caveats(card))


def _caveats(card: GeneratorCard) -> list[str]:
    return [card.caveat] if card.caveat else []


def _image(
    row: Mapping[str, Any], path: str | None, data: bytes, cached: bool, notes: Sequence[str] = ()
) -> GeneratedImage:
    return GeneratedImage(
        path=path,
        prompt=row["prompt"],
        seed=row["seed"],
        generator=row["generator"],
        licence=row["licence"],
        weights=row["weights"],
        sha256=row["sha256"],
        parent=row["parent"],
        tried=row["tried"],
        fit=max(row["scores"]),
        p_value=row["p_value"],
        cached=cached,
        seconds=row["seconds"],
        notes=tuple(notes),
        png=data,
    )


def _rejection(row: Mapping[str, Any]) -> RejectedError:
    n = row["tried"]
    return RejectedError(
        f"Rejected: {row['generator']!r} could not draw {row['prompt']!r}; the best of {n} shows it no better than "
        f"a picture of something else would (p = {row['p_value']:.2g}).\nTry other words, another seed or more tries."
    )
