"""Damage to a collection's files: whether ``verify`` finds it, and whether any search answers wrongly because of it.

    python benchmarks/stages/corruption.py [--n 1400] [--seed 2] [--out benchmarks/results/corruption.jsonl]

A collection that holds every kind of file is damaged one file at a time: a flipped bit, a zeroed page of 4 KB, a
truncation. After each, ``verify`` runs, and searches ask by the built index, exactly, behind a filter and for captions.
Half of the damages are to a collection as it grew, half to its copy after ``compact``. One JSON line a kind of damage;
``refused`` is a search that stopped with exit code 4.
"""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent.parent / "tests"))
from care import whole_collection
from corruptions import KINDS, try_corruptions
from results import append, machine

from clipsearch.flows.compact import compact
from clipsearch.store import Store


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=1400)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        whole_collection(Path(folder, "grown")).close()
        shutil.copytree(Path(folder, "grown"), Path(folder, "compacted"))
        compact(Store.open(Path(folder, "compacted")))
        found = try_corruptions(Path(folder, "grown"), args.n - args.n // 2, args.seed)
        found += try_corruptions(Path(folder, "compacted"), args.n // 2, args.seed + 1)
    for kind in KINDS:
        outcomes = {what: 0 for what in ("right", "refused", "wrong", "overlooked")}
        by_folder: dict[str, int] = {}
        for (place, damage, outcome), times in found.items():
            if damage == kind:
                outcomes[outcome] = outcomes.get(outcome, 0) + times
                by_folder[place] = by_folder.get(place, 0) + (times if outcome != "overlooked" else 0)
        line = {"stage": "corruption", "kind": kind, "n": sum(by_folder.values()), **outcomes, "files": by_folder}
        line |= {"seed": args.seed, "seconds": round(time.monotonic() - start, 1), **machine()}
        if args.out is not None:
            append(args.out, line)
        print(line)


if __name__ == "__main__":
    main()
