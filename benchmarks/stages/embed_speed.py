"""Images per second from a folder of JPEGs to stored embeddings, beside the plain loops that other tools run.

    python benchmarks/stages/embed_speed.py FOLDER --prepare               # once: model, exports, pictures
    python benchmarks/stages/embed_speed.py FOLDER --megapixels 12 [--rounds 5] [--out FILE]

The model is open_clip's ViT-B-32 with random weights: its speed is that of trained ones. In each round every contender
takes all pictures once, in turn, so that drift meets all alike:

- ``plain loop``: Pillow decodes and resizes, open_clip embeds in float32, one after the other, as clip-retrieval does
  in a worker;
- ``onnx, undivided``: the same decoding, ONNX Runtime in float32, batches of 8, as rclip does;
- ``clipsearch RUNTIME``: ``ingest`` into an empty collection, from scanning to the last commit;
- the bare stages: ``decode`` on one core, and each ``tower`` alone on all cores.

``of ideal`` is the rate as a share of 1 / (1 / tower + decode / cores), a machine whose cores never wait.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent.parent))
from results import append, machine

SIZES = {12: (4000, 3000), 2: (1600, 1200)}
COUNTS = {12: 48, 2: 128}
BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--prepare", action="store_true")
    parser.add_argument("--megapixels", type=int, choices=sorted(SIZES), default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pictures", type=int, help="of those that were prepared")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no further round after this")
    parser.add_argument("--out", default="benchmarks/results/embed_speed.jsonl")
    options = parser.parse_args()
    folder = Path(options.folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["HF_HUB_CACHE"] = str(folder / "hub")
    if options.prepare:
        prepare(folder)
        return
    start = time.monotonic()
    files = sorted((folder / f"{options.megapixels}mp").glob("*.jpg"))[: options.pictures]
    contenders, towers = load(folder, files)
    times: dict[str, list[float]] = {name: [] for name in contenders}
    shares: dict[str, Any] = {}
    for round_ in range(options.rounds):
        if time.monotonic() - start > options.seconds:
            break
        for name, run in contenders.items():
            began = time.perf_counter()
            shares[name] = run()
            times[name].append(time.perf_counter() - began)
        print(f"round {round_ + 1}: {time.monotonic() - start:.0f} s", flush=True)
    report(options, len(files), times, shares, towers)


def prepare(folder: Path) -> None:
    """Make what is not there: weights, exports in both precisions, pictures of both sizes."""
    import open_clip
    import torch

    from clipsearch.embed import export_model

    weights = folder / "vit-b-32.pt"
    if not weights.exists():
        torch.manual_seed(0)
        torch.save(open_clip.create_model("ViT-B-32").state_dict(), weights)
    export_model(f"ViT-B-32@{weights}", "int8", print)
    for megapixels, size in SIZES.items():
        (folder / f"{megapixels}mp").mkdir(exist_ok=True)
        for i in range(COUNTS[megapixels]):
            path = folder / f"{megapixels}mp" / f"{i:03d}.jpg"
            if not path.exists():
                picture(size, i % 12, i).save(path, quality=90)


def picture(size: tuple[int, int], seed: int, noise: int) -> Image.Image:
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
    grown += np.random.default_rng(1000 + noise).standard_normal(grown.shape[:2], np.float32)[..., None] * 0.012
    return Image.fromarray(np.clip(128 + 110 * grown, 0, 255).astype(np.uint8))


def load(folder: Path, files: list[Path]) -> tuple[dict[str, Callable[[], Any]], dict[str, str]]:
    """Return what is timed, by name, and which tower each of clipsearch's runs belongs to."""
    import open_clip
    import torch

    from clipsearch.embed import load_encoder

    name = f"ViT-B-32@{folder / 'vit-b-32.pt'}"
    model, _, transform = open_clip.create_model_and_transforms("ViT-B-32", pretrained=str(folder / "vit-b-32.pt"))
    model.eval()
    kinds = [("torch", "bf16"), ("onnx", "fp32"), ("openvino", "bf16"), ("onnx", "int8")]
    encoders = {}
    for runtime, precision in kinds:
        try:
            encoder = load_encoder(name, runtime=runtime, precision=precision)
            encoder.encode_images(np.zeros((BATCH, 224, 224, 3), np.uint8))
        except Exception as problem:
            print(f"without {runtime} {precision}: {problem}")
            continue
        encoders[f"{runtime} {precision}"] = encoder
    preprocess = encoders["onnx fp32"].preprocess
    pixels = np.stack([preprocess(Image.open(files[i % len(files)])) for i in range(12)])
    pixels = np.concatenate([pixels] * 6)[: 2 * BATCH]

    def plain_loop() -> None:
        for start in range(0, len(files), BATCH):
            batch = torch.stack([transform(Image.open(file)) for file in files[start : start + BATCH]])
            with torch.inference_mode():
                model.encode_image(batch, normalize=True).numpy()

    def undivided() -> None:
        for start in range(0, len(files), 8):
            encoders["onnx fp32"].encode_images(
                np.stack([preprocess(Image.open(file)) for file in files[start : start + 8]])
            )

    contenders: dict[str, Callable[[], Any]] = {"plain loop": plain_loop, "onnx, undivided": undivided}
    for kind, encoder in encoders.items():
        contenders[f"clipsearch {kind}"] = lambda encoder=encoder: whole(encoder, files[0].parent, len(files))
    contenders["decode"] = lambda: decode(preprocess, files)
    for kind, encoder in encoders.items():
        contenders[f"tower {kind}"] = lambda encoder=encoder: encoder.encode_images(pixels) is None
    return contenders, {f"clipsearch {kind}": f"tower {kind}" for kind in encoders}


def whole(encoder: Any, folder: Path, expected: int) -> dict[str, float]:
    """Index the folder into a collection that is thrown away; returns the share of each stage."""
    from clipsearch.flows.identity import encoder_record
    from clipsearch.flows.ingest import ingest
    from clipsearch.store import Store

    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        store = Store.create(os.path.join(temporary, "photos"), encoder_record(encoder), encoder.dim)
        done = ingest(store, encoder, folder, batch_size=BATCH)
    assert done.embedded == expected, f"{done.embedded} of {expected} were embedded; take all that were prepared"
    return {stage: round(seconds / done.seconds, 3) for stage, seconds in done.stages.items()}


def decode(preprocess: Any, files: list[Path]) -> None:
    """Decode on one core, as a worker does."""
    from clipsearch.decode.image import decode_image
    from clipsearch.decode.limits import DecodeLimits

    limits = DecodeLimits()
    for file in files:
        decode_image(file.read_bytes(), preprocess, limits)


def report(
    options: argparse.Namespace,
    n: int,
    times: dict[str, list[float]],
    shares: dict[str, Any],
    towers: dict[str, str],
) -> None:
    """Print and keep the rates, their ratios round by round, and what is reached of the ideal."""
    cores = len(os.sched_getaffinity(0))
    counts = {name: 2 * BATCH if name.startswith("tower ") else n for name in times}
    for name, seconds in times.items():
        rates = [counts[name] / one for one in seconds]
        record: dict[str, Any] = {
            "stage": "embed_speed",
            "megapixels": options.megapixels,
            "contender": name,
            "images_per_s": round(statistics.median(rates), 2),
            "spread": round((max(rates) - min(rates)) / statistics.median(rates), 3),
            "runs": len(rates),
            "pictures": counts[name],
        }
        if name in towers:
            record["shares"] = shares[name]
            for other, key in (("plain loop", "to_plain_loop"), ("onnx, undivided", "to_onnx_undivided")):
                ratios = [b / a for a, b in zip(seconds, times[other], strict=True)]
                record[key] = round(statistics.median(ratios), 2)
                record[f"{key}_range"] = [round(min(ratios), 2), round(max(ratios), 2)]
            reached = [
                (n / one) * (tower / counts[towers[name]] + decoding / n / cores)
                for one, tower, decoding in zip(seconds, times[towers[name]], times["decode"], strict=True)
            ]
            record["of_ideal"] = round(statistics.median(reached), 3)
        print(
            f"{options.megapixels:2} MP  {name:26} {record['images_per_s']:7.1f} images/s (spread {record['spread']})"
            + "".join(
                f"  {key} {record[key]}" for key in ("to_plain_loop", "to_onnx_undivided", "of_ideal") if key in record
            )
            + (f"  {record['shares']}" if "shares" in record else "")
        )
        append(options.out, {**record, "date": time.strftime("%Y-%m-%d"), **machine()})


if __name__ == "__main__":
    main()
