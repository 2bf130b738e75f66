"""Images per second from a folder of JPEGs to stored embeddings, beside the plain loops that other tools run.

    python benchmarks/stages/embed_speed.py FOLDER --prepare               # once: model, exports, pictures
    python benchmarks/stages/embed_speed.py FOLDER [--megapixels 12 2] [--rounds 5] [--out FILE]

The model is open_clip's ViT-B-32 with random weights: its speed is that of trained ones. In each round every contender
takes all pictures once, in turn, so that drift meets all alike:

- ``plain loop``: Pillow decodes and resizes, open_clip embeds in float32, one after the other, as clip-retrieval does
  in a worker;
- ``onnx, undivided``: the same decoding, ONNX Runtime in float32, batches of 8, as rclip does;
- ``clipsearch RUNTIME``: ``ingest`` into an empty collection, from scanning to the last commit;
- the bare stages: ``decode`` on one core, and each ``tower`` alone on all cores.

Processor time, children included, stands beside the rates: it says what a picture costs on a machine that others use
too. ``of_ideal`` is the rate as a share of 1 / (1 / tower + decode / cores), a machine whose cores never wait.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent.parent))
from results import append, machine

SIZES = {12: (4000, 3000), 2: (1600, 1200)}
COUNTS = {12: 64, 2: 128}
RUNTIMES = [("torch", "bf16"), ("onnx", "fp32"), ("openvino", "bf16"), ("onnx", "int8")]
DRAWN = 12  # the others are these once more, with other bytes behind their end, so that they are no copies
FEW = 4  # the plain loops take one picture in so many: they are slow, and each picture costs them the same
BATCH = 32


class Contender(NamedTuple):
    """What is timed: how many pictures a call takes, and the call."""

    pictures: int
    run: Callable[[], Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--prepare", nargs="?", const="all", choices=["all", "model", "pictures"])
    parser.add_argument("--megapixels", type=int, nargs="+", choices=sorted(SIZES), default=sorted(SIZES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no further round after this")
    parser.add_argument("--out", default="benchmarks/results/embed_speed.jsonl")
    options = parser.parse_args()
    folder = Path(options.folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["HF_HUB_CACHE"] = str(folder / "hub")
    if options.prepare:
        if options.prepare != "pictures":
            prepare_model(folder)
        if options.prepare != "model":
            prepare_pictures(folder)
        return
    start = time.monotonic()
    contenders = load(folder, options.megapixels)
    times: dict[str, list[float]] = {name: [] for name in contenders}
    work: dict[str, list[float]] = {name: [] for name in contenders}
    shares: dict[str, Any] = {}
    for round_ in range(options.rounds):
        if round_ and time.monotonic() - start > options.seconds:
            break
        for name, contender in contenders.items():
            began, worked = time.perf_counter(), processor_time()
            shares[name] = contender.run()
            times[name].append((time.perf_counter() - began) / contender.pictures)
            work[name].append((processor_time() - worked) / contender.pictures)
            print(f"round {round_ + 1}: {name:30} {1 / times[name][-1]:7.1f} images/s", flush=True)
    for name in contenders:
        report(name, contenders, times, work[name], shares[name], options.out)


def processor_time() -> float:
    """Return the processor seconds of this process and of its children that have ended."""
    return sum(os.times()[:4])


def prepare_model(folder: Path) -> None:
    """Make what is not there of weights and exports in both precisions."""
    import open_clip
    import torch

    from clipsearch.embed import export_model

    weights = folder / "vit-b-32.pt"
    if not weights.exists():
        torch.manual_seed(0)
        torch.save(open_clip.create_model("ViT-B-32").state_dict(), weights)
    export_model(f"ViT-B-32@{weights}", "int8", print)


def prepare_pictures(folder: Path) -> None:
    """Make the pictures of both sizes."""
    for megapixels, size in SIZES.items():
        (folder / f"{megapixels}mp").mkdir(exist_ok=True)
        for i in range(COUNTS[megapixels]):
            path = folder / f"{megapixels}mp" / f"{i:03d}.jpg"
            if i < DRAWN and not path.exists():
                picture(size, i).save(path, quality=90)
            elif i >= DRAWN:
                path.write_bytes((path.parent / f"{i % DRAWN:03d}.jpg").read_bytes() + i.to_bytes(2, "big"))


def picture(size: tuple[int, int], seed: int) -> Image.Image:
    """Draw clouds of all sizes in three colours, with the noise of a sensor: as large as a photo when compressed."""
    random = np.random.default_rng(seed)
    total = np.zeros((size[1] // 2, size[0] // 2, 3), np.float32)
    for octave in range(1, 10):
        coarse = random.standard_normal((3 << octave, 4 << octave, 3)).astype(np.float32)
        planes = [
            np.asarray(Image.fromarray(coarse[..., c]).resize(total.shape[1::-1], Image.Resampling.BICUBIC))
            for c in range(3)
        ]
        total += np.stack(planes, axis=-1) * 0.55**octave
    grown = np.stack(
        [np.asarray(Image.fromarray(total[..., c]).resize(size, Image.Resampling.BICUBIC)) for c in range(3)], axis=-1
    )
    grown += random.standard_normal(grown.shape[:2], np.float32)[..., None] * 0.012
    return Image.fromarray(np.clip(128 + 110 * grown, 0, 255).astype(np.uint8))


def load(folder: Path, sizes: list[int]) -> dict[str, Contender]:
    """Return what is timed, by name."""
    import open_clip

    from clipsearch.embed import load_encoder

    name = f"ViT-B-32@{folder / 'vit-b-32.pt'}"
    model, _, transform = open_clip.create_model_and_transforms("ViT-B-32", pretrained=str(folder / "vit-b-32.pt"))
    model.eval()
    encoders: dict[str, Any] = {}
    for runtime, precision in RUNTIMES:
        if runtime == "openvino" and find_spec("openvino") is None:
            print("without openvino, which is not installed")
            continue
        encoder = load_encoder(name, runtime=runtime, precision=precision)
        encoder.encode_images(np.zeros((BATCH, 224, 224, 3), np.uint8))
        encoders[f"{runtime} {precision}"] = encoder
    preprocess = encoders["onnx fp32"].preprocess
    found: dict[str, Contender] = {}
    for megapixels in sizes:
        files = sorted((folder / f"{megapixels}mp").glob("*.jpg"))
        few = files[: len(files) // FEW]
        add = partial(_add, found, megapixels)
        add("plain loop", len(few), partial(plain_loop, model, transform, few))
        add("onnx, undivided", len(few), partial(undivided, encoders["onnx fp32"], few))
        for kind, encoder in encoders.items():
            add(f"clipsearch {kind}", len(files), partial(whole, encoder, files[0].parent, len(files)))
        add("decode", len(few), partial(decode, preprocess, few))
    shown = np.stack([preprocess(Image.open(file)) for file in few[:DRAWN]])
    pixels = np.concatenate([shown] * -(-2 * BATCH // len(shown)))[: 2 * BATCH]
    for kind, encoder in encoders.items():
        found[f"tower {kind}"] = Contender(len(pixels), lambda encoder=encoder: encoder.encode_images(pixels) is None)
    return found


def _add(found: dict[str, Contender], megapixels: int, name: str, pictures: int, run: Callable[[], Any]) -> None:
    found[f"{megapixels} MP {name}"] = Contender(pictures, run)


def plain_loop(model: Any, transform: Any, files: list[Path]) -> None:
    """Embed as open_clip's own code does."""
    import torch

    for start in range(0, len(files), BATCH):
        batch = torch.stack([transform(Image.open(file)) for file in files[start : start + BATCH]])
        with torch.inference_mode():
            model.encode_image(batch, normalize=True).numpy()


def undivided(encoder: Any, files: list[Path]) -> None:
    """Embed by ONNX Runtime in batches of 8, every picture decoded whole."""
    for start in range(0, len(files), 8):
        encoder.encode_images(np.stack([encoder.preprocess(Image.open(file)) for file in files[start : start + 8]]))


def whole(encoder: Any, folder: Path, expected: int) -> dict[str, float]:
    """Index the folder into a collection that is thrown away; returns the share of each stage."""
    from clipsearch.flows.identity import encoder_record
    from clipsearch.flows.ingest import ingest
    from clipsearch.store import Store

    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        store = Store.create(os.path.join(temporary, "photos"), encoder_record(encoder), encoder.dim)
        done = ingest(store, encoder, folder, batch_size=BATCH)
    assert done.embedded == expected, f"{done.embedded} of {expected} were embedded"
    return {stage: round(seconds / done.seconds, 3) for stage, seconds in done.stages.items()}


def decode(preprocess: Any, files: list[Path]) -> None:
    """Decode on one core, as a worker does."""
    from clipsearch.decode.image import decode_image
    from clipsearch.decode.limits import DecodeLimits

    limits = DecodeLimits()
    for file in files:
        decode_image(file.read_bytes(), preprocess, limits)


def report(
    name: str,
    contenders: dict[str, Contender],
    times: dict[str, list[float]],
    work: list[float],
    shares: Any,
    out: str,
) -> None:
    """Print and keep a rate, its ratios to the plain loops round by round, and what it reaches of the ideal."""
    seconds = times[name]
    rates = [1 / one for one in seconds]
    record: dict[str, Any] = {
        "stage": "embed_speed",
        "contender": name,
        "images_per_s": round(statistics.median(rates), 2),
        "spread": round((max(rates) - min(rates)) / statistics.median(rates), 3),
        "runs": len(rates),
        "pictures": contenders[name].pictures,
        "processor_ms_per_image": round(1000 * statistics.median(work), 2),
    }
    size, _, kind = name.partition(" MP clipsearch ")
    if kind:
        for other, key in (("plain loop", "to_plain_loop"), ("onnx, undivided", "to_onnx_undivided")):
            ratios = [b / a for a, b in zip(seconds, times[f"{size} MP {other}"], strict=True)]
            record[key] = [round(value, 2) for value in (statistics.median(ratios), min(ratios), max(ratios))]
        cores = len(os.sched_getaffinity(0))
        bare = zip(seconds, times[f"tower {kind}"], times[f"{size} MP decode"], strict=True)
        record["of_ideal"] = round(statistics.median((tower + one / cores) / took for took, tower, one in bare), 3)
        record["shares"] = shares
    print(json.dumps(record))
    append(out, {**record, "date": time.strftime("%Y-%m-%d"), **machine()})


if __name__ == "__main__":
    main()
