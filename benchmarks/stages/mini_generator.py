"""The shipped generator ``mini``: does it draw what was asked, how new is it, how long does it take.

    python benchmarks/stages/mini_generator.py --work DIR [--weights DIR] [--out FILE.jsonl] [--sheet FILE.png]
        [--captions dev.csv] [--only-rejected]

WORK has ``pictures.npy`` of ``scripts/train_mini_generator.py --stages render``. Needs torch for the witness.

- attributes: thing and colour of the render that is nearest to a picture, over all pairs of the corpus, by pixels;
- round trip: is a picture's own caption the first among 500, for the witness (``scripts/mini_draw/witness.py``: other
  towers, other seed, no part in the training), and for the encoder ``mini``, whose text tower is the condition;
- nearest training picture: distance in grey levels (root mean square), and whether it has the thing asked for;
- samplers, steps and guidance on held-out pairs;
- what ``generate`` rejects: prompts that it can draw, by three judges (its own statement of what it draws, which is
  used; the encoder's test of the picture; the nearness of the prompt to its training captions), and how many of those
  are drawn right; and prompts that it cannot draw, by kind;
- the encoder's test on good sketches and on pictures of something else, noise and plain colour;
- seconds a picture, the text tower included, on the cores that this process may use.
"""

import argparse
import csv
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
from clipsearch.flows.judging import judge  # noqa: E402
from clipsearch.generate.base import Options  # noqa: E402
from clipsearch.generate.mini import WEIGHTS, MiniGenerator  # noqa: E402
from clipsearch.generate.provenance import seen  # noqa: E402
from clipsearch.generate.scope import read_scope  # noqa: E402

SIZE, LARGE = Options(width=64, height=64), Options(width=256, height=256)
# What a person might type for a thing that it knows; written down before its statement was tried on them.
WORDINGS = (
    "dog", "Cat", "a little dog", "one horse", "the lion", "a picture of a tiger", "photo of an elephant",
    "drawing of a frog", "an image of an owl", "a sketch of a castle", "a yellow banana", "a red apple", "a green frog",
    "red car", "blue bus", "a brown bear", "a white rabbit", "pink pig", "orange pumpkin", "golden crown", "a red rose",
    "yellow sun", "purple grapes", "a slice of pizza", "puppy", "kitten", "bunny", "bike", "airplane", "a plane",
    "an automobile", "cell phone", "a smartphone", "motorbike", "lorry", "a hot cup of coffee", "a mug of coffee",
    "a pint of beer", "beer", "a cheeseburger", "an ice cream cone", "chocolate chip cookie", "football", "a clock",
    "a guitar on a white background", "a lemon on blue", "a blue background with a star",
    "a bell against a purple background", "a camera, black background", "key on a plain red background",
    "a heart in front of a pink background", "a dog standing on a green background", "a palm", "wooden chair",
    "a pair of scissors", "eyeglasses", "a laptop computer", "a steam train", "a hen", "alligator", "a lady bug",
    "an open book", "a striped tiger", "crescent moon", "a sailing ship", "a bunch of grapes", "loaf of bread",
    "a simple house", "a cute panda", "an umbrella", "helicopter", "a rocket", "mushroom", "a cactus",
)  # fmt: skip
NEAR = tuple(
    f"{'an' if name[0] in 'aeio' else 'a'} {name}"
    for name in (
        "zebra", "kangaroo", "peacock", "wolf", "deer", "goat", "donkey", "hippo", "rhino", "gorilla", "eagle", "swan",
        "parrot", "shark", "dolphin", "lizard", "spider", "ant", "squirrel", "hamster", "pear", "peach", "mango",
        "potato", "tomato", "onion", "cucumber", "sandwich", "hot dog", "pancake", "bottle", "spoon", "tram", "scooter",
        "submarine", "tank", "van", "skateboard", "violin", "piano", "saxophone", "table", "sofa", "lamp", "television",
        "watch", "pencil", "axe", "saw", "helmet", "shoe", "sock", "shirt", "dress", "cloud", "island", "bridge",
        "lighthouse", "windmill", "teddy bear", "fire truck", "mouse pad", "computer mouse", "ghost", "dragon",
        "unicorn", "tulip", "daisy", "oak leaf", "kite", "tennis ball", "telephone box", "cup of tea", "cheesecake",
    )
)  # fmt: skip
IN_COMPANY = (
    "a blue dog", "a green cat", "a purple banana", "two dogs", "three apples", "a dog and a cat", "a dog with a ball",
    "a dog playing guitar", "a cat on a chair", "a car on a road", "a horse in a field", "a house by the sea",
    "a broken car", "a dog's bone", "a man with an umbrella", "a robot eating pizza", "a sheep on a mountain",
    "a fish in a bowl", "a tiger in snow", "apple juice", "a book about trees", "a red cat on a blue background",
    "a bear climbing a tree", "a crown made of paper", "a wooden chair and a bed", "a duck swimming on a lake",
    "a lion's mane", "a train station", "a bus stop", "a star athlete", "key west", "moon landing", "a bed of roses",
    "the sun sets behind a castle", "a church window", "a banana split", "a heart attack", "a snake charmer",
    "a house on fire", "dogs on a red background",
)  # fmt: skip
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
    parser.add_argument("--prompts", type=int, default=40, help="Of each kind, where pictures are judged.")
    parser.add_argument("--captions", type=Path, help="A CSV of captions (image, caption) that it cannot draw.")
    parser.add_argument("--only-rejected", action="store_true", help="Only what is rejected.")
    parser.add_argument("--witness-steps", type=int, default=200)
    parser.add_argument("--quick", action="store_true", help="Attributes and the sheet only.")
    options = parser.parse_args()
    pictures = np.load(options.work / "pictures.npy")
    encoder = Remembering(clipsearch.embed.load_encoder("mini"))
    generator = MiniGenerator(options.weights, encoder=encoder)
    witness = None if options.quick or options.only_rejected else load_witness(options, pictures)
    measure = Measure(pictures, generator, witness, encoder)

    def note(what: str, **figures: Any) -> None:
        print(what, figures, flush=True)
        if not options.quick:
            record = {"stage": "mini_generator", "what": what, **figures, "date": time.strftime("%Y-%m-%d")}
            append(options.out, {**record, **machine()})

    if options.only_rejected:
        measure_rejected(measure, options, note)
        return
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
    measure_rejected(measure, options, note)
    seconds = []
    for i, scene in enumerate(known[:30]):
        start = time.perf_counter()
        generator.generate(caption(scene), 1, i, LARGE)
        seconds.append(time.perf_counter() - start)
    note("seconds a picture of 256 x 256, 12 steps", **summary(seconds))
    print("colours:", ", ".join(COLOURS))


def measure_rejected(measure: Measure, options: argparse.Namespace, note: Any) -> None:
    """What is rejected of prompts that it can draw, and let through of those that it cannot."""
    scope = read_scope(str(options.weights or WEIGHTS))
    training = measure.encoder.encode_texts([text for s in measure.all if not s.held_out for text in s.captions()])
    pairs = [caption(s) for s in measure.all if s.held_out]
    known = {
        "things on white": [with_article(name) for name in OBJECTS],
        "held-out pairs": pairs,
        "other wordings": list(WORDINGS),
    }
    absent = {"far from it": list(FAR), "near things": list(NEAR), "known words in other company": list(IN_COMPANY)}
    if options.captions is not None:
        with open(options.captions, encoding="utf-8", newline="") as file:
            told = [row["caption"] for row in csv.DictReader(file)]
        absent["captions of photographs"] = random.Random(1).sample(told, min(1000, len(told)))
    near = {what: near_training(measure, training, prompts) for what, prompts in {**known, **absent}.items()}
    level = float(np.quantile(near["other wordings"], 0.10))  # the nearness that rejects one in ten of these
    rng = random.Random(3)
    for what, prompts in known.items():
        few = rng.sample(prompts, min(options.prompts, len(prompts)))
        by_encoder = [not passes(measure, prompt, prompt) for prompt in few]
        lost = [prompt for prompt in prompts if scope.read(prompt).why_not]
        print(what, "not drawn:", "; ".join(lost))
        note(
            f"rejected though it can draw it: {what}", prompts=len(prompts),
            by_statement=share(p in lost for p in prompts), by_nearness=share(near[what] < level),
            by_encoder=share(by_encoder), by_encoder_of=len(few), best_of=2,
        )  # fmt: skip
    for what, prompts in absent.items():
        through = [prompt for prompt in prompts if not scope.read(prompt).why_not]
        print(what, "let through:", "; ".join(through[:10]))
        note(
            f"let through though it cannot draw it: {what}", prompts=len(prompts),
            by_statement=share(p in through for p in prompts), by_nearness=share(near[what] >= level),
        )  # fmt: skip
    told = [(s, scope.read(text).words) for s, text in spoken(measure, scope)]
    drawn = np.stack([measure.generator.generate(words, 1, i, SIZE)[0] for i, (_, words) in enumerate(told)])
    found = measure.attributes([s for s, _ in told], drawn)
    note("drawn of other wordings", pictures=len(told), **{key: found[key] for key in ("object", "colour", "both")})
    measure_encoder(measure, options.prompts, note)


def spoken(measure: Measure, scope: Any) -> list[tuple[Scene, str]]:
    """Return the scenes that those wordings mean which are taken."""
    found = []
    for text in WORDINGS:
        if not scope.read(text).why_not:
            colour = next(
                (c for c in COLOURS if f"{c} background" in text.lower() or text.endswith(f"on {c}")), "white"
            )
            words = text.lower().replace(",", "").split()
            spans = {" ".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, len(words) + 1)}
            name = max((scope.things[span] for span in spans if span in scope.things), key=len)
            found.append((Scene(name, colour), text))
    return found


def measure_encoder(measure: Measure, prompts: int, note: Any) -> None:
    """The p-value of the encoder's test, of good sketches and of what shows nothing of the prompt; best of 2."""
    rng, noise = random.Random(4), np.random.default_rng(4)
    names = rng.sample(list(OBJECTS), prompts)
    drawn = [measure.generator.generate(with_article(name), 2, 0, LARGE) for name in names]
    plain = [np.full((2, 256, 256, 3), rng.choice(list(COLOURS.values())), np.uint8) for _ in names]
    for what, pictures in (
        ("good sketches", drawn),
        ("sketches of another thing", drawn[1:] + drawn[:1]),
        ("noise", [noise.integers(0, 256, (2, 256, 256, 3)).astype(np.uint8) for _ in names]),
        ("plain colour", plain),
    ):
        values = np.array([judged(measure, p, with_article(n)).p_value for p, n in zip(pictures, names, strict=True)])
        above = {f"above_{level}": share(values > level) for level in (0.05, 0.2, 0.5)}
        note(f"p-value of the encoder's test: {what}", pictures=len(values), median=float(np.median(values)), **above)


def near_training(measure: Measure, training: np.ndarray, prompts: list[str]) -> np.ndarray:
    """Return the cosine (n,) of each prompt and the nearest training caption, by mini's text tower."""
    return (measure.encoder.encode_texts(prompts) @ training.T).max(axis=1)


def passes(measure: Measure, words: str, prompt: str) -> bool:
    """Tell whether the best of 2 passes the encoder's test, as it does of generators that state nothing."""
    return not judged(measure, measure.generator.generate(words, 2, 0, LARGE), prompt).rejected


def judged(measure: Measure, drawn: np.ndarray, prompt: str) -> Any:
    form: Preprocess = measure.encoder.preprocess
    return judge(measure.encoder, prompt, np.stack([seen(picture, form) for picture in drawn]))


class Remembering:
    """An encoder that embeds each text once: the same captions are compared with every picture."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.known = inner, dict[str, np.ndarray]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def encode_texts(self, texts: Any) -> np.ndarray:
        new = [text for text in dict.fromkeys(texts) if text not in self.known]
        if new:
            self.known |= zip(new, self.inner.encode_texts(new), strict=True)
        return np.stack([self.known[text] for text in texts])


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
