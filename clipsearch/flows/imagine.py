"""Draw a picture for a text query, and let what looks like it come nearer: the rung ``imagined``.

Drawing takes seconds and may fail, so it happens only where a person asks for it, within a deadline, by the generator,
cache and breaker of ``flows/fill.py``; whatever goes wrong leaves the answer as it is without. A picture that does not
show the text (``RejectedError``) is not used. It is used only where it was measured to help (``fit``), or where the
person says to use it anyway. The picture is a generated one like any other: kept in ``generated/``, never a hit.
"""

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from clipsearch.augment import RUNGS
from clipsearch.embed.base import Encoder
from clipsearch.errors import GenerationError, InputError, RejectedError, UnknownNameError
from clipsearch.flows.augment import read_pairs
from clipsearch.flows.augment_files import AugmentEvidence, Imagining, load_kept, save
from clipsearch.flows.augment_trial import measure, row_folds_of
from clipsearch.flows.augmenter import Augmenter, Drawn, change_line, staleness
from clipsearch.flows.fill import check_breaker
from clipsearch.flows.progress import Progress
from clipsearch.generate.provenance import seen
from clipsearch.store import Snapshot
from clipsearch.types import Floats, GeneratedImage, Ints

NAME = "imagined"
MODES = ("measured", "anyway")
SECONDS = 60.0  # for one picture, loading and waiting included
SAMPLES, FEWEST, MOST = 100, 50, 2_000  # captions that pictures are drawn for


@dataclass(frozen=True, slots=True)
class Imaginer:
    """Draws a picture for a text and embeds it.

    Attributes:
        path: the collection's folder.
        draw: gives the picture that a generator draws, or drew before.
        encoder: gives the collection's encoder.
        generator: what the one that draws is called.
    """

    path: str
    draw: Callable[[str], GeneratedImage]
    encoder: Callable[[], Encoder]
    generator: str

    def look(self, text: str) -> tuple[Floats, GeneratedImage]:
        """Return the embedding (D,) of a picture drawn for a text, and the picture.

        Raises:
            GenerationError: nothing was drawn; RejectedError: what was drawn does not show it.
        """
        from PIL import Image

        check_breaker(self.path)
        image = self.draw(text)
        encoder = self.encoder()
        with Image.open(io.BytesIO(image.png), formats=["PNG"]) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        embedding = encoder.encode_images(seen(pixels, encoder.preprocess)[None])[0]
        if not np.isfinite(embedding).all():
            raise GenerationError("The model gave no finite embedding for the picture.")
        return embedding, image


def imagining(augmenter: Augmenter, imaginer: Callable[[str | None], Imaginer], mode: str = "measured") -> Augmenter:
    """Return rungs that go with a picture drawn for each query, where that was measured to help.

    Args:
        augmenter: the rungs that are on.
        imaginer: gives what draws, by the name of a generator; None takes the best one on this machine.
        mode: "measured", or "anyway" to draw without evidence.

    Raises:
        UnknownNameError: there is no such mode.
    """
    if mode not in MODES:
        raise UnknownNameError(f"There is no way to imagine called {mode!r}. Known: {', '.join(MODES)}.")
    known, anyway = augmenter.imagined, mode == "anyway"
    if not anyway and (known is None or not known.rung.on):
        return replace(augmenter, said=(_off(augmenter),))
    kind = RUNGS.load(NAME)
    weight = min(kind.weights) if known is None else known.rung.weight
    evidence = "it was not measured here" if known is None else summary(known)

    def draw(text: str) -> Drawn:
        try:
            embedding, image = imaginer(None if known is None else known.generator).look(text)
            if known is not None and not anyway and image.weights != known.weights:
                return Drawn(None, _left_out("it was measured with other weights; 'augment fit' measures again"))
        except Exception as problem:  # of any kind: a search does not fail because a generator does
            return Drawn(None, _left_out(str(problem) or type(problem).__name__))
        place = f" ({image.path})" if image.path else ""
        note = f"imagined: the order is also by a picture that {image.generator} drew{place}; {evidence}."
        return Drawn(embedding.astype(np.float32), note)

    return replace(augmenter, rungs={**augmenter.rungs, NAME: (weight, kind())}, draw=draw)


def summary(known: Imagining) -> str:
    """Return what was measured, in one line."""
    return (
        f"R@10 {change_line(known.rung.r10)} on {known.asked:,} held-back captions, {known.drawn:,} of them drawn by "
        f"{known.generator}"
    )


def _off(augmenter: Augmenter) -> str:
    if augmenter.imagined is None:
        return (
            f"imagined: nothing was drawn: {augmenter.unmeasured}; 'clipsearch augment fit --rung imagined' does so, "
            "--imagine-anyway draws without evidence."
        )
    return f"imagined: off for want of evidence: {summary(augmenter.imagined)}; --imagine-anyway draws all the same."


def _left_out(why: str) -> str:
    return f"imagined: left out: {' '.join(why.split())}"


def fit(
    snapshot: Snapshot,
    imaginer: Imaginer,
    *,
    samples: int = SAMPLES,
    seconds: float | None = None,
    created: str | None = None,
    tell: Callable[[Progress], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> AugmentEvidence:
    """Measure pictures drawn for held-back captions, on top of the rungs that are on, and keep what was found.

    Args:
        snapshot: a version whose rungs were measured.
        imaginer: draws.
        samples: captions to draw for, at most, each of another picture.
        seconds: what a picture took last time, or None.
        created: the time to note down, ISO 8601; None takes now.
        tell: called after each picture.
        say: called once with how long it will take.

    Raises:
        InputError: ``samples`` makes no sense, or the rungs were not measured on this version.
        GenerationError: drawing failed several times in a row; nothing is changed.
        StorageError: the result cannot be written.
    """
    if not FEWEST <= samples <= MOST:
        raise InputError(f"{samples:,} captions were asked for; give {FEWEST} to {MOST:,}.")
    kept = load_kept(snapshot.path)
    if kept is None or kept.evidence.off or staleness(kept, snapshot):
        raise InputError("The other rungs were not measured on these rows. Run: clipsearch augment fit")
    pairs, images, targets, captions = read_pairs(snapshot)
    encoder = imaginer.encoder()
    asked = sample(images.keys[targets], targets)
    texts = [row["text"] for row in snapshot.rows("texts", captions[asked].tolist())]
    which = [n for n, text in enumerate(texts) if encoder.covers_text(text) and text.strip()][:samples]
    asked = asked[which]
    drawn, rejected, weights = _draw_all(imaginer, [texts[n] for n in which], seconds, tell, say)
    folds, row_folds = row_folds_of(images.keys, targets)
    table = np.zeros_like(pairs.texts)
    table[asked] = drawn
    rows = images.at(np.arange(len(images.ids)))
    base = [rung.name for rung in kept.evidence.on]
    trial = measure(replace(pairs, drawn=table), folds, rows, targets, row_folds, [NAME], asked=asked, given=base)
    imagined = Imagining(
        generator=imaginer.generator,
        weights=weights,
        created=created or datetime.now(UTC).isoformat(timespec="seconds"),
        asked=len(asked),
        drawn=int(drawn.any(axis=1).sum()),
        rejected=rejected,
        trial=trial,
    )
    evidence = replace(kept.evidence, imagined=imagined)
    save(snapshot.path, replace(kept, evidence=evidence))
    return evidence


def sample(keys: NDArray[np.uint64], targets: Ints) -> Ints:
    """Return positions of one caption of each picture, the first, in an order that only the pictures' contents decide.

    Args:
        keys: (P,) hash of the picture of each pair.
        targets: (P,) which picture that is.
    """
    first = np.unique(targets, return_index=True)[1]
    return first[np.argsort(keys[first], kind="stable")]


def _draw_all(
    imaginer: Imaginer,
    texts: Sequence[str],
    seconds: float | None,
    tell: Callable[[Progress], None] | None,
    say: Callable[[str], None] | None,
) -> tuple[Floats, int, str]:
    """Return embeddings (n, D), zeros where nothing was drawn, how many were rejected, and the weights' digest."""
    drawn = np.zeros((len(texts), imaginer.encoder().dim), np.float32)
    rejected, weights = 0, ""
    say = say or (lambda _: None)
    if seconds is not None:
        say(_duration(len(texts), seconds, imaginer.generator))
    for number, text in enumerate(texts):
        start = time.monotonic()
        try:
            drawn[number], image = imaginer.look(text)
            weights = image.weights
        except RejectedError:
            rejected += 1
        except (GenerationError, InputError):  # the latter of a caption as no generator takes it
            check_breaker(imaginer.path)  # several in a row end it all
        if number == 1 and seconds is None:  # the first one loads the model
            say(_duration(len(texts) - 2, time.monotonic() - start, imaginer.generator))
        if tell is not None:
            tell(Progress("imagine", number + 1, len(texts)))
    return drawn, rejected, weights


def _duration(n: int, seconds: float, generator: str) -> str:
    took = n * seconds
    words = f"{took:.0f} s" if took < 120 else f"{took / 60:.0f} min"
    return (
        f"{generator} draws for {n:,} captions, about {words}; less where it drew before. What is drawn is kept, so it "
        "may be stopped and run again."
    )
