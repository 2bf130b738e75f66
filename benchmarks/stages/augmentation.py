"""What each rung changes on Flickr8k dev, and which switch themselves on.

    python benchmarks/stages/augmentation.py FLICKR8K [--model mini] [--indexes FOLDER]

FLICKR8K is a folder with dev.tar and dev.csv (1,000 photographs, five captions each). They are indexed once into a
collection in ``--indexes``, and measured as ``clipsearch augment fit`` does. One JSON line a rung, and one for all that
are on. Figures are shares; they do not depend on the machine.
"""

import argparse
import sys
import time
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from results import append, machine

import clipsearch


def collection(folder, model, indexes):
    place = Path(indexes) / f"flickr8k-dev-{model}"
    if (place / "CURRENT").exists():
        return clipsearch.open(place)
    made = clipsearch.create(place, model)
    made.index(folder / "dev.tar", captions=folder / "dev.csv")
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("flickr8k", type=Path)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--indexes", default="indexes")
    parser.add_argument("--out", default=Path(__file__).parent.parent / "results" / "augmentation.jsonl")
    options = parser.parse_args()
    photos = collection(options.flickr8k, options.model, options.indexes)
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
