"""Error rates of verdicts with a filter: one by chance, and one by content, around a concept that is missing.

    python benchmarks/stages/match_filter.py FLICKR8K [--repetitions 24] [--out benchmarks/results/match_filter.jsonl]

As in ``match_test.py`` whole concepts are taken out and the rest is calibrated. A quarter of it passes the filter:
``random``, or ``content``: the concepts nearest to one that was taken out, so that what is asked of it is near to
everything that passes. The null over the rows that pass is made

- ``own``: as clipsearch does, of the queries about pictures that pass, others to make up the number;
- ``all``: of all queries, whatever they are about;
- ``whole``: not at all: that of the whole collection is used.

One JSON line each; ``near`` are absent queries about the missing concept that the filter is around.
"""

import argparse
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent))
from match_test import Tower, collection, rounded
from results import append, machine

from clipsearch.embed import load_encoder
from clipsearch.evaluation.intervals import grouped_share
from clipsearch.flows.evaluate_match import _turns, concepts_of
from clipsearch.flows.match_trials import Captions, _make
from clipsearch.match import bank
from clipsearch.match.calibration import Block, Part, asked_again, find_nearest
from clipsearch.match.verdict import judge
from clipsearch.types import Verdict

SHARE = 0.25


def concept_order(whole, labels):
    """Return for each concept the others, nearest first, by the mean of its captions."""
    texts = whole.kinds["texts"].embeddings.astype(np.float32).reshape(len(labels), 5, -1).mean(1)
    names = np.unique(labels)
    centres = np.array([texts[labels == name].mean(0) for name in names])
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    return {name: names[np.argsort(-(centres @ centre))] for name, centre in zip(names, centres, strict=True)}


def around(concept, order, labels, stay, taken):
    """Return the pictures (n,) of the concepts nearest to one, until a quarter of those that stay."""
    chosen = []
    for name in order[concept]:
        if name not in taken:
            chosen.append(name)
        if np.isin(labels[stay], chosen).sum() >= SHARE * len(stay):
            break
    return np.sort(stay[np.isin(labels[stay], chosen)])


def verdicts(asked, block, reference):
    found = find_nearest(asked.embeddings, lambda: [block]).evidence(reference.hub, reference.depth)
    return np.array([str(judge(float(e), reference)[0]) for e in found])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--repetitions", type=int, default=24)
    parser.add_argument("--cache", type=Path, default=Path("benchmarks/cache"))
    parser.add_argument("--out", default="benchmarks/results/match_filter.jsonl")
    options = parser.parse_args()
    encoder = load_encoder(options.model)
    whole = collection(options.folder, encoder, options.cache)
    tower = Tower(encoder, options.cache / f"{encoder.name}-{encoder.fingerprint()[:8]}-texts.npz")
    labels = concepts_of(whole, encoder)
    order, answers = concept_order(whole, labels), {}
    for number, taken in enumerate(_turns(labels, options.repetitions, 0)):
        rng = np.random.default_rng((0, number))
        out = np.isin(labels, taken)
        stay = rng.permutation(np.flatnonzero(~out))
        captions = Captions.of(whole, rng)
        asked = captions.to_ask(stay)
        made = _make(whole.part(~out, captions.ids[asked]), tower, "images")
        centre = rng.choice(taken)
        content = around(centre, order, labels, stay, taken)
        filters = {"random": np.sort(stay[: len(content)]), "content": content}
        for (name, ids), kind in ((one, kind) for one in filters.items() for kind in bank.KINDS):
            target = made.target
            at = np.searchsorted(target.ids, ids)
            block = Block(ids, made.block.rows[at], target.hubs[at], target.concepts[at])
            part = Part(ids, np.bincount(target.concepts[at], minlength=int(target.concepts.max()) + 1))
            reference, queries = target.kinds[kind], target.queries[kind]
            nulls = {
                "own": asked_again(reference, queries, lambda block=block: [block], part),
                "all": asked_again(reference, queries, lambda block=block: [block]),
                "whole": reference,
            }
            absent = captions.as_kind(captions.of_pictures(np.flatnonzero(out)), kind, labels, tower)
            there = captions.as_kind(asked[np.isin(captions.owners[asked], ids)], kind, labels, tower)
            for null, known in nulls.items():
                sides = answers.setdefault((name, kind, null), {"absent": [], "near": [], "answerable": []})
                found = verdicts(absent, block, known)
                near = absent.concepts == centre
                entry = list(zip(absent.names, absent.concepts, found, strict=True))
                sides["absent"] += entry
                sides["near"] += [one for one, keep in zip(entry, near, strict=True) if keep]
                sides["answerable"] += zip(there.names, there.concepts, verdicts(there, block, known), strict=True)
    tower.save()
    wanted = {"false_accept": ("absent", Verdict.MATCH), "false_accept_near": ("near", Verdict.MATCH)}
    wanted |= {"found": ("answerable", Verdict.MATCH), "false_reject": ("answerable", Verdict.NONE)}
    for (name, kind, null), sides in answers.items():
        shares = {}
        for figure, (side, verdict) in wanted.items():
            names, concepts, said = zip(*sides[side], strict=True)
            share = grouped_share(np.array(said) == str(verdict), np.array(concepts), len(set(names)))
            shares[figure] = rounded(asdict(share))
        record = {"stage": "match_filter", "model": encoder.name, "fingerprint": encoder.fingerprint()[:12]}
        record |= {"filter": name, "kind": kind, "null": null, "repetitions": options.repetitions, **shares}
        append(options.out, {**record, "date": time.strftime("%Y-%m-%d"), **machine()})
        print(
            f"{name:8} {kind:9} {null:6}",
            *(f"{f} {s['value']:.3f} [{s['low']:.3f}, {s['high']:.3f}]" for f, s in shares.items()),
        )


if __name__ == "__main__":
    main()
