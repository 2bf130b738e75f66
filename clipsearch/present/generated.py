"""Generated pictures in words and in JSON: always said to be generated, never among the hits."""

from collections.abc import Mapping, Sequence
from typing import Any

from clipsearch.present.json_lines import path_fields
from clipsearch.types import GeneratedImage

BADGE = "GENERATED"


def generated_object(image: GeneratedImage) -> dict[str, Any]:
    """Return a generated picture as ``clipsearch.generated/1``."""
    return {
        "schema": "clipsearch.generated/1",
        "generated": True,
        "prompt": image.prompt,
        **({"path": None} if image.path is None else path_fields(image.path)),
        "generator": image.generator,
        "licence": image.licence,
        "weights": image.weights,
        "seed": image.seed,
        "tried": image.tried,
        "fit": round(image.fit, 6),
        "p_value": image.p_value,
        "parent": image.parent,
        "sha256": image.sha256,
        "cached": image.cached,
        "seconds": image.seconds,
        "notes": list(image.notes),
    }


def fill_object(
    query: str, verdict: str, mode: str, images: Sequence[GeneratedImage], why: str | None
) -> dict[str, Any]:
    """Return what filling came to as ``clipsearch.fill/1``: the pictures, or why there is none."""
    return {
        "schema": "clipsearch.fill/1",
        "query": query,
        "verdict": verdict,
        "mode": mode,
        "generated": [generated_object(image) for image in images],
        "why": why,
    }


def describe(image: GeneratedImage) -> str:
    """Return one line that says where a picture is and that no camera took it."""
    how = "drawn before" if image.cached else f"{image.seconds:.1f} s, best of {image.tried}"
    where = image.path or "not kept"
    return f"generated, not a hit: {where} ({image.generator}, seed {image.seed}, {how}; licence: {image.licence})"


LIST_COLUMNS = ("name", "made", "generator", "seed", "size", "prompt")


def list_rows(found: Sequence[tuple[Mapping[str, Any], int]]) -> list[list[str]]:
    """Return ledger rows, each with the bytes of its file, as the cells of ``LIST_COLUMNS``."""
    from clipsearch.present.text import file_size, moment

    return [
        [
            str(row["file"]).split(".")[0],
            moment(str(row["when"])),
            str(row["generator"]),
            str(row["seed"]),
            file_size(size),
            str(row["prompt"]),
        ]
        for row, size in found
    ]
