"""What each rung changes on Flickr8k dev, and which switch themselves on.

    python benchmarks/stages/augmentation.py FLICKR8K [--model mini] [--indexes FOLDER] [--imagined mini --samples 200]

FLICKR8K is a folder with dev.tar and dev.csv (1,000 photographs, five captions each). They are indexed once into a
collection in ``--indexes``, and measured as ``clipsearch augment fit`` does. One JSON line a rung, and one for all that
are on. Figures are shares; they do not depend on the machine.

With ``--imagined GENERATOR`` pictures drawn for captions are measured instead, twice: as a search uses them, without
those that do not show their caption ("rejected"), and with all of them, which no search does. Drawing takes seconds a
caption.
"""

import argparse
import sys
import time
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
import numpy as np
from results import append, machine

import clipsearch
from clipsearch.flows.fill import judge, make_service
from clipsearch.flows.generators import need_generator
from clipsearch.flows.imagine import fit as fit_imagined
from clipsearch.generate.base import Options
from clipsearch.generate.provenance import seen


def collection(folder, model, indexes):
    place = Path(indexes) / f"flickr8k-dev-{model}"
    if (place / "CURRENT").exists():
        return clipsearch.open(place)
    made = clipsearch.create(place, model)
    made.index(folder / "dev.tar", captions=folder / "dev.csv")
    return made


class Unrejected:
    """Looks at the best picture drawn for a text, whether or not it shows the text."""

    def __init__(self, photos, generator, service):
        self.path, self.generator, self.weights = photos.path, generator.card.name, ""
        self.photos, self.chosen, self.service = photos, generator, service
        self.encoder = lambda: photos.encoder

    def look(self, text):
        card, encoder = self.chosen.card, self.photos.encoder
        options = Options(card.width, card.height, card.steps, card.guidance_scale)
        drawn = self.service.draw(text, self.chosen.tries, 0, options)
        shown = np.stack([seen(picture, encoder.preprocess) for picture in drawn.pixels])
        best = judge(encoder, text, shown).picked
        return encoder.encode_images(shown[best : best + 1])[0], self


def imagined(photos, options, common):
    """Measure pictures drawn for captions, in both ways."""
    photos.fit_augment()
    took = time.monotonic()
    used = photos.fit_augment(["imagined"], generator=options.imagined, samples=options.samples, say=print)
    took = time.monotonic() - took
    chosen = need_generator(photos.path, options.imagined)
    with make_service(photos.path, chosen) as service:
        snapshot, drawer = photos._current().snapshot, Unrejected(photos, chosen, service)
        every = fit_imagined(snapshot, drawer, samples=options.samples, created="")
    for what, evidence in (("rejected left out", used), ("all", every)):
        known = evidence.imagined
        facts = {"asked": known.asked, "drawn": known.drawn, "rejected": known.rejected, "pictures_used": what}
        row = {"rung": asdict(known.rung), "plain": asdict(known.trial.plain), "generator": known.generator, **facts}
        append(options.out, {**row, "seconds": round(took, 1) if what != "all" else None, **common})
        print(what, facts, "on" if known.rung.on else "off", known.rung.r10, known.rung.r1, known.rung.mrr, flush=True)
    photos.fit_augment()  # what was measured with pictures that no search uses is not left behind


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("flickr8k", type=Path)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--indexes", default="indexes")
    parser.add_argument("--imagined", metavar="GENERATOR")
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--out", default=Path(__file__).parent.parent / "results" / "augmentation.jsonl")
    options = parser.parse_args()
    photos = collection(options.flickr8k, options.model, options.indexes)
    if options.imagined:
        common = {"model": options.model, "data": "flickr8k dev", "date": time.strftime("%Y-%m-%d"), **machine()}
        imagined(photos, options, common)
        return
    start = time.monotonic()
    evidence = photos.fit_augment()
    common = {
        "model": options.model,
        "data": "flickr8k dev",
        "pairs": evidence.pairs,
        "pictures": evidence.pictures,
        "among": evidence.among,
        "seconds": round(time.monotonic() - start, 1),
        "date": time.strftime("%Y-%m-%d"),
        **machine(),
    }
    trial = evidence.trial
    for rung in trial.rungs:
        append(options.out, {"rung": asdict(rung), **common})
        print(rung.name, "on" if rung.on else "off", rung.r10)
    together = {"plain": asdict(trial.plain), "augmented": asdict(trial.augmented), "change": asdict(trial.change)}
    append(options.out, {"all_on": together, **common})


if __name__ == "__main__":
    main()
