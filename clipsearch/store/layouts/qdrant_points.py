"""Points of a Qdrant collection, on a server or in a folder of its local mode; needs ``qdrant-client``.

A point has the row's id, its embedding and, as payload, all that is known of it. A server cannot be written beside and
renamed. Instead, what is there already under the same ids and with the same payload is left alone, so a run that was
cut off goes on; points that are not rows of the export (any more) go at the end. A Qdrant collection that holds
anything else is refused.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import numpy as np

from clipsearch.errors import InputError, MissingExtraError
from clipsearch.store.layouts import Block, Options, Rows
from clipsearch.store.layouts.target import check_target
from clipsearch.types import Ints

NAMES = ("collection", "meta.json", ".lock")
_SAME = 0.999  # cosine of a point and the row it stands for: servers may store float16 or quantise
_SAMPLE = 16
LOCAL_ROWS = 20_000  # the client itself warns above it


def write(rows: Rows, place: str, options: Options) -> tuple[str, ...]:
    """Fill the collection; returns notes for a person.

    Args:
        rows: what to write.
        place: a folder, for local mode; with ``options.url`` the name of the server's collection.
        options: url, force.
    """
    qdrant = _library()
    if options.url is None:
        name = rows.name
        check_target(place, True, NAMES)
    else:
        name = place
    with _connected(qdrant, place, options.url) as client:
        _prepare(qdrant, client, name, rows, options.force)
        done = 0
        for block in rows.blocks(False):
            for start in range(0, len(block.ids), options.batch_rows):
                part = block.slice(start, start + options.batch_rows)
                _upsert(qdrant, client, name, part, rows.model)
                done += len(part.ids)
                rows.wrote(done)
        if client.count(name, exact=True).count > rows.n:
            _remove_others(qdrant, client, name, rows)
    if options.url is None and rows.n > LOCAL_ROWS:
        return (
            f"Qdrant's local mode compares all points and keeps them in memory; for {rows.n:,} take a server: --url",
        )
    return ()


@contextmanager
def _connected(qdrant: Any, place: str, url: str | None) -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of many points in local mode: said above, in a note
        try:
            client = qdrant.QdrantClient(path=place) if url is None else qdrant.QdrantClient(url=url, timeout=60)
            try:
                client.get_collections()
                yield client
            finally:
                client.close()
        except (OSError, RuntimeError, ValueError, qdrant.http.exceptions.ApiException) as problem:
            where = url or place
            raise InputError(
                f"Qdrant at {where} did not do as it was asked: {' '.join(str(problem).split())[:200]}\n"
                "What was written is kept; the same command goes on from there."
            ) from problem


def _prepare(qdrant: Any, client: Any, name: str, rows: Rows, force: bool) -> None:
    """Make the collection, or see whether it is this very export begun before."""
    models = qdrant.models
    there = client.collection_exists(name)
    if there and not _is_ours(client, name, rows):
        if not force:
            raise InputError(
                f"Qdrant has a collection {name!r} already, of other points.\n"
                "Give another name, or --force to delete it and write it anew."
            )
        client.delete_collection(name)
        there = False
    if not there:
        vectors = models.VectorParams(size=rows.dim, distance=models.Distance.COSINE)
        client.create_collection(name, vectors_config=vectors)


def _is_ours(client: Any, name: str, rows: Rows) -> bool:
    """Tell whether a sample of the points there are rows of the export."""
    size = getattr(client.get_collection(name).config.params.vectors, "size", None)
    if size != rows.dim:
        return False
    points = client.scroll(name, limit=_SAMPLE, with_payload=["model"], with_vectors=True)[0]
    wanted = {point.id: np.asarray(point.vector, np.float32) for point in points}
    if any(not isinstance(p.id, int) or (p.payload or {}).get("model") != rows.model for p in points):
        return False
    if not wanted:
        return True
    found = 0
    for block in rows.blocks(False):
        for at in np.flatnonzero(np.isin(block.ids, list(wanted))):
            vector = wanted[int(block.ids[at])]
            row = block.embeddings[at].astype(np.float32)
            if float(vector @ row) < _SAME * float(np.linalg.norm(vector) * np.linalg.norm(row)):
                return False
            found += 1
        if found == len(wanted) or (len(block.ids) and block.ids[-1] > max(wanted)):
            break
    return found > 0


def _upsert(qdrant: Any, client: Any, name: str, block: Block, model: str) -> None:
    """Write the points of a block that are not there yet, and those of which more is known now, such as tags."""
    ids, payloads = block.ids.tolist(), _payloads(block, model)
    there = {point.id: point.payload for point in client.retrieve(name, ids, with_payload=True, with_vectors=False)}
    new = [at for at, id_ in enumerate(ids) if there.get(id_) != payloads[at]]
    if not new:
        return
    points = [
        qdrant.models.PointStruct(
            id=ids[at], vector=block.embeddings[at].astype(np.float32).tolist(), payload=payloads[at]
        )
        for at in new
    ]
    client.upsert(name, points=points, wait=True)


def _payloads(block: Block, model: str) -> list[dict[str, Any]]:
    """Return what is known of each row as JSON values; what is not known is left out."""
    return [
        {
            **{name: _plain(value) for name, value in row.items() if value is not None and name != "id"},
            **({"captions": list(captions)} if captions else {}),
            "model": model,
        }
        for row, captions in zip(block.table.to_pylist(), block.captions, strict=True)
    ]


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _remove_others(qdrant: Any, client: Any, name: str, rows: Rows) -> None:
    """Remove the points that are no rows of the export: those of an earlier one, deleted since."""
    ids: Ints = np.concatenate([np.empty(0, np.int64), *(block.ids for block in rows.blocks(False))])
    offset, gone = None, []
    while True:
        points, offset = client.scroll(name, limit=10_000, offset=offset, with_payload=False, with_vectors=False)
        there = np.array([point.id for point in points], dtype=np.int64)
        gone += there[~np.isin(there, ids)].tolist()
        if offset is None:
            break
    for start in range(0, len(gone), 10_000):
        selector = qdrant.models.PointIdsList(points=gone[start : start + 10_000])
        client.delete(name, points_selector=selector, wait=True)


def _library() -> Any:  # Any: a module that may not be there
    try:
        import qdrant_client  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise MissingExtraError(
            "Writing to Qdrant needs the package qdrant-client, which this Python does not have.\n"
            "Install with: pip install 'clipsearch[qdrant]'"
        ) from None
    return qdrant_client
