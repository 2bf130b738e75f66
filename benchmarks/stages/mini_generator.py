"""The shipped generator ``mini``: does it draw what was asked, how new is it, how long does it take.

    python benchmarks/stages/mini_generator.py --work DIR [--weights DIR] [--out FILE.jsonl] [--sheet FILE.png]

WORK has ``pictures.npy`` of ``scripts/train_mini_generator.py --stages render``. Needs torch for the witness.

- attributes: thing and colour of the render that is nearest to a picture, over all pairs of the corpus, by pixels;
- round trip: is a picture's own caption the first among 500, for the witness (``scripts/mini_draw/witness.py``: other
  towers, other seed, no part in the training), and for the encoder ``mini``, whose text tower is the condition;
- nearest training picture: distance in grey levels (root mean square), and whether it has the thing asked for;
- samplers, steps and guidance on held-out pairs;
- prompts of things that it never saw: how many does ``generate``'s own test reject;
- seconds a picture, the text tower included, on the cores that this process may use.
"""

import argparse
import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "scripts")]
from mini_draw.corpus import COLOURS, OBJECTS, Scene, scenes, with_article  # noqa: E402
from results import append, machine, summary  # noqa: E402

import clipsearch.embed  # noqa: E402
from clipsearch.embed.preprocess import Preprocess  # noqa: E402
from clipsearch.flows.fill import judge  # noqa: E402
from clipsearch.generate.base import Options  # noqa: E402
from clipsearch.generate.mini import MiniGenerator  # noqa: E402
from clipsearch.generate.provenance import seen  # noqa: E402

SIZE = Options(width=64, height=64)
FAR = (
    "quarterly tax report", "two men playing chess", "a crowded street at night", "a wedding in a garden",
    "children playing football", "a woman reading a newspaper", "the president gives a speech", "a sandy beach",
    "a bowl of noodle soup", "an old map of Europe", "surgery in a hospital", "a concert audience",
    "graffiti on a wall",
    "people waiting for the underground", "a kitchen with white tiles", "a diver under water", "a violin lesson",
    "rusty pipes", "a circuit board", "a page of handwriting", "a climber on a rope", "a marathon", "a waterfall",
    "a skyline with skyscrapers", "a baby asleep", "democracy", "the smell of rain", "a firefighter", "a chess board",
    "a pair of jeans", "a swimming pool", "an escalator", "a windmill", "a zebra", "a peacock", "a kangaroo",
    "a typewriter", "a telescope", "a skateboard", "a hot air balloon over fields",
)  # fmt: skip


def caption(scene: Scene) -> str:
    return f"{with_article(scene.name)} on {'an' if scene.colour == 'orange' else 'a'} {scene.colour} background"


class Measure:
    """Pictures of scenes, compared with the corpus."""

    def __init__(self, pictures: np.ndarray, generator: MiniGenerator, witness: Any, encoder: Any) -> None:
        self.all = scenes()
        self.renders = pictures.reshape(len(pictures), -1).astype(np.float32)
        self.squares = (self.renders**2).sum(axis=1)
        self.training = np.array([not scene.held_out for scene in self.all * 2])
        self.generator, self.witness, self.encoder = generator, witness, encoder
        rng = random.Random(5)
        self.distractors = rng.sample(self.all, len(self.all))

    def draw(self, chosen: list[Scene], options: Options = SIZE) -> np.ndarray:
        return np.stack([self.generator.generate(caption(s), 1, i, options)[0] for i, s in enumerate(chosen)])

    def attributes(self, chosen: list[Scene], drawn: np.ndarray) -> dict[str, float]:
        flat = drawn.reshape(len(drawn), -1).astype(np.float32)
        squared = np.maximum(self.squares - 2 * flat @ self.renders.T + (flat**2).sum(axis=1)[:, None], 0)
        distance = np.sqrt(squared / flat.shape[1])
        found = [self.all[i % len(self.all)] for i in distance.argmin(axis=1)]
        trained = np.where(self.training, distance, np.inf)
        nearest = [self.all[i % len(self.all)] for i in trained.argmin(axis=1)]
        pairs = list(zip(chosen, found, strict=True))
        return {
            "object": share(a.name == b.name for a, b in pairs),
            "colour": share(a.colour == b.colour for a, b in pairs),
            "both": share(a == b for a, b in pairs),
            "distance_to_render": round(float(np.median(distance.min(axis=1))), 2),
            "nearest_training_distance": round(float(np.median(trained.min(axis=1))), 2),
            "nearest_training_is_asked_pair": share(a == b for a, b in zip(chosen, nearest, strict=True)),
            "nearest_training_same_object": share(a.name == b.name for a, b in zip(chosen, nearest, strict=True)),
        }

    def round_trip(self, chosen: list[Scene], drawn: np.ndarray) -> dict[str, float]:
        rows = [[s, *[d for d in self.distractors if d != s][:499]] for s in chosen]
        texts = [caption(s) for s in self.all]
        place = {s: i for i, s in enumerate(self.all)}
        prepared = np.stack([seen(picture, self.encoder.preprocess) for picture in drawn])
        answer = {}
        for name, images, captions in (
            ("witness", self.witness.encode_images(drawn), self.witness.encode_texts(texts)),
            ("mini", self.encoder.encode_images(prepared), self.texts(texts)),
        ):
            scores = images @ captions.T
            ranks = np.array(
                [(s[[place[d] for d in r]] > s[place[r[0]]]).sum() for s, r in zip(scores, rows, strict=True)]
            )
            answer |= {f"{name}_first_of_500": share(ranks == 0), f"{name}_in_first_10": share(ranks < 10)}
        return answer

    def texts(self, texts: list[str]) -> np.ndarray:
        if not hasattr(self, "_texts"):
            self._texts = self.encoder.encode_texts(texts)
        return self._texts


def share(found: Any) -> float:
    return round(float(np.mean(list(found))), 3)


def sheet(measure: Measure, path: str) -> None:
    """64 pictures: 40 things on white, 12 seen pairs, 12 held-out pairs; prompts are printed, row by row."""
    rng = random.Random(11)
    names = rng.sample(list(OBJECTS), 40)
    known = [s for s in measure.all if not s.held_out and s.colour != "white"]
    rest = [s for s in measure.all if s.held_out]
    chosen = [Scene(name, "white") for name in names] + rng.sample(known, 12) + rng.sample(rest, 12)
    prompts = [with_article(s.name) if s.colour == "white" else caption(s) for s in chosen]
    drawn = [measure.generator.generate(p, 1, i, SIZE)[0] for i, p in enumerate(prompts)]
    rows = [np.concatenate(drawn[i : i + 8], axis=1) for i in range(0, 64, 8)]
    Image.fromarray(np.concatenate(rows)).save(path, optimize=True)
    for i in range(0, 64, 8):
        print("; ".join(prompts[i : i + 8]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--weights")
    parser.add_argument("--out", default="benchmarks/results/mini_generator.jsonl")
    parser.add_argument("--sheet", default="benchmarks/results/mini_generator.png")
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--prompts", type=int, default=40, help="Of each kind, for what is rejected.")
    parser.add_argument("--witness-steps", type=int, default=200)
    parser.add_argument("--quick", action="store_true", help="Attributes and the sheet only.")
    options = parser.parse_args()
    pictures = np.load(options.work / "pictures.npy")
    encoder = clipsearch.embed.load_encoder("mini")
    generator = MiniGenerator(options.weights, encoder=encoder)
    witness = None if options.quick else load_witness(options, pictures)
    measure = Measure(pictures, generator, witness, encoder)

    def note(what: str, **figures: Any) -> None:
        print(what, figures, flush=True)
        if not options.quick:
            record = {"stage": "mini_generator", "what": what, **figures, "date": time.strftime("%Y-%m-%d")}
            append(options.out, {**record, **machine()})

    sheet(measure, options.sheet)
    rng = random.Random(3)
    known = rng.sample([s for s in measure.all if not s.held_out and s.colour != "white"], options.pictures)
    rest = [s for s in measure.all if s.held_out]
    rest = rng.sample(rest, min(options.pictures, len(rest)))
    for what, chosen in (("seen pairs", known), ("held-out pairs", rest)):
        drawn = measure.draw(chosen)
        trip = {} if options.quick else measure.round_trip(chosen, drawn)
        note(what, pictures=len(chosen), **measure.attributes(chosen, drawn), **trip)
    if options.quick:
        return
    truth = pictures[[measure.all.index(s) for s in rest]]
    note("true renders of the held-out pairs", pictures=len(rest), **measure.round_trip(rest, truth))
    for name, steps, scale in (
        ("confidence", 1, 2.0), ("confidence", 4, 2.0), ("confidence", 24, 2.0),
        ("confidence", 12, 1.0), ("confidence", 12, 2.0), ("confidence", 12, 4.0), ("random", 12, 2.0),
    ):  # fmt: skip
        wanted = Options(width=64, height=64, sampler=name, steps=steps, guidance_scale=scale)
        few = rest[: options.pictures // 3]
        found = measure.attributes(few, measure.draw(few, wanted))
        kept = {key: found[key] for key in ("object", "colour", "both", "distance_to_render")}
        note("held-out pairs by sampler", sampler=name, steps=steps, guidance=scale, pictures=len(few), **kept)
    large = Options(width=256, height=256)
    for what, prompts in (
        ("rejected: things on white", [with_article(name) for name in rng.sample(list(OBJECTS), options.prompts)]),
        ("rejected: held-out pairs", [caption(s) for s in rest[: options.prompts]]),
        ("rejected: things never seen", list(FAR[: options.prompts])),
    ):
        rejected = [rejects(encoder, generator.generate(prompt, 2, 0, large), prompt) for prompt in prompts]
        note(what, pictures=len(prompts), best_of=2, share=share(rejected))
    true = [
        rejects(encoder, pictures[measure.all.index(s)][None].repeat(2, 0), caption(s)) for s in rest[: options.prompts]
    ]
    note("rejected: true renders of the held-out pairs", pictures=len(true), best_of=2, share=share(true))
    seconds = []
    for i, scene in enumerate(known[:30]):
        start = time.perf_counter()
        generator.generate(caption(scene), 1, i, large)
        seconds.append(time.perf_counter() - start)
    note("seconds a picture of 256 x 256, 12 steps", **summary(seconds))
    print("colours:", ", ".join(COLOURS))


def rejects(encoder: Any, drawn: np.ndarray, prompt: str) -> bool:
    form: Preprocess = encoder.preprocess
    return judge(encoder, prompt, np.stack([seen(picture, form) for picture in drawn])).rejected


def load_witness(options: argparse.Namespace, pictures: np.ndarray) -> Any:
    import torch
    from mini_draw.witness import Witness, train

    torch.set_num_threads(1)
    place = options.work / "witness.pt"
    if place.exists():
        saved = torch.load(place)
        model = Witness(saved["vocabulary"])
        model.load_state_dict(saved["state"])
        return model.eval()
    model = train(pictures, scenes(), options.witness_steps, 77)
    torch.save({"vocabulary": list(model.ids), "state": model.state_dict()}, place)
    return model


if __name__ == "__main__":
    main()
