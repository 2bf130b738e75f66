"""JSON Lines: one object a line, UTF-8, each with its schema's name and version.

A file name is bytes and JSON is text. ``path`` is always readable text; where the name is not UTF-8, ``path_b64``
holds the true bytes in base64 beside it.
"""

import base64
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from clipsearch.types import Hit, SearchResult, Skip, display_path

FIELDS = ("width", "height", "format", "taken", "camera", "lens", "latitude", "longitude", "generated")

_OWN = {*FIELDS, "size"}  # what a hit says of a picture besides columns that were added


def dump(value: Mapping[str, Any]) -> str:
    """Return one object as one line. Times become ISO 8601; NaN and infinity, which JSON lacks, become null."""
    return json.dumps(_clean(value), ensure_ascii=False, allow_nan=False)


def _clean(value: Any) -> Any:  # Any: whatever JSON can hold
    if isinstance(value, Mapping):
        return {str(key): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float):
        return value if value - value == 0.0 else None
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return value


def path_fields(path: str | bytes) -> dict[str, str]:
    """Return ``path`` as text and, where its bytes are not UTF-8, ``path_b64``."""
    raw = os.fsencode(path)
    try:
        return {"path": raw.decode()}
    except UnicodeDecodeError:
        return {"path": display_path(raw), "path_b64": base64.b64encode(raw).decode()}


def hit_object(hit: Hit, query: str, verdict: str | None = None, folded: Sequence[int] = ()) -> dict[str, Any]:
    """Return a hit as ``clipsearch.hit/1``; columns that were added later stand behind all else, by their names.

    ``verdict`` marks a hit that is only the nearest of what does not match; ``folded`` are the row ids of those
    that show or say the same.
    """
    marked: dict[str, Any] = {} if verdict is None else {"verdict": verdict}
    marked |= {"folded": list(folded)} if folded else {}
    text = {} if hit.text is None else {"text": hit.text}
    known = {name: hit.metadata[name] for name in FIELDS if hit.metadata.get(name) is not None}
    found = {
        "schema": "clipsearch.hit/1",
        "query": query,
        "rank": hit.rank,
        "id": int(hit.id),
        "score": round(float(hit.score), 6),
        **path_fields(hit.path),
        **text,
        **marked,
        **known,
    }
    added = {name: value for name, value in hit.metadata.items() if name not in found and name not in _OWN}
    return found | added


def result_object(
    result: SearchResult,
    query: str,
    *,
    model: str,
    collection: str,
    version: int | None,
    parts: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what holds for a whole answer as ``clipsearch.result/1``; ``parts`` are the further parts of the query."""
    from clipsearch.present.generated import generated_object

    return {
        "schema": "clipsearch.result/1",
        "query": query,
        **parts,
        "target": result.target,
        "hits": len(result),
        "verdict": str(result.verdict),
        "p_value": result.p_value,
        "levels": dict(result.levels),
        "why": result.why,
        "model": model,
        "collection": collection,
        "version": version,
        "notes": list(result.notes),
        "generated": [generated_object(image) for image in result.generated],
    }


def skip_lines(skips: Sequence[Skip]) -> Iterator[str]:
    """Yield each file left out as one line of ``clipsearch.skip/1``; paths are relative to the source."""
    for skip in skips:
        member = {} if skip.member is None else {"member": display_path(skip.member)}
        yield dump(
            {
                "schema": "clipsearch.skip/1",
                **path_fields(skip.path),
                **member,
                "reason": str(skip.reason),
                "detail": skip.detail,
            }
        )
