"""Files and results as plain columns, in which they travel between the run and the workers of a cluster.

Going out, a row is an ``ImageRef`` and its ordinal; coming back, the ordinal, an embedding and JSON for the rest. Of an
answer no more is trusted than its form.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

import numpy as np

from clipsearch import errors
from clipsearch.errors import ClipsearchError
from clipsearch.flows.engines.base import Embedded, EngineError, Result
from clipsearch.types import Floats, ImageMetadata, ImageRef, Skip, SkipReason

ORDINAL, ANSWER, EMBEDDING = "ordinal", "answer", "embedding"
BYTES_FIELDS = ("root", "path", "member")
Columns = dict[str, Any]  # Any: NumPy arrays, or lists
_FIELDS = tuple(field.name for field in fields(ImageRef))


def columns_of(refs: Sequence[ImageRef], first: int) -> Columns:
    """Return files as columns; ``first`` is the ordinal of the first one."""
    columns: Columns = {name: [getattr(ref, name) for ref in refs] for name in _FIELDS}
    return {ORDINAL: list(range(first, first + len(refs))), **columns}


def refs_of(columns: Mapping[str, Any]) -> list[ImageRef]:
    """Return the files of columns as they arrive: NumPy arrays of integers and of bytes objects."""
    values = [[_plain(value) for value in columns[name]] for name in _FIELDS]
    return [ImageRef(*row) for row in zip(*values, strict=True)]


def answers_of(ordinals: Any, results: Sequence[Result], dim: int) -> Columns:  # Any: (N,) integers
    """Return results as columns, an embedding of zeros where there is none."""
    embeddings = np.zeros((len(results), dim), np.float32)
    for row, result in zip(embeddings, results, strict=True):
        if isinstance(result, Embedded) and result.embedding is not None:
            row[:] = result.embedding
    answers = [json.dumps(_facts(result)) for result in results]
    return {ORDINAL: np.asarray(ordinals, np.int64), ANSWER: answers, EMBEDDING: embeddings}


def failure_of(ordinals: Any, problem: ClipsearchError, dim: int) -> Columns:  # Any: (N,) integers
    """Return as columns that a worker cannot do its work; ``in_order`` raises it again."""
    answer = json.dumps({"error": type(problem).__name__, "message": str(problem)})
    embeddings = np.zeros((len(ordinals), dim), np.float32)
    return {ORDINAL: np.asarray(ordinals, np.int64), ANSWER: [answer] * len(ordinals), EMBEDDING: embeddings}


def in_order(blocks: Iterator[Mapping[str, Any]], refs: Sequence[ImageRef]) -> Iterator[Result]:
    """Yield the results of answers that may come in any order, in the order of the files.

    Raises:
        ClipsearchError: a worker could not do its work, and why.
        EngineError: an answer makes no sense, or there is not one for each file.
    """
    waiting: dict[int, tuple[str, Floats]] = {}
    turn = 0
    for block in blocks:
        embeddings = np.array(block[EMBEDDING], np.float32)  # a copy: the block's memory is the cluster's
        for ordinal, answer, embedding in zip(block[ORDINAL].tolist(), block[ANSWER], embeddings, strict=True):
            waiting[ordinal] = (answer, embedding)
        while (found := waiting.pop(turn, None)) is not None:
            yield _result(refs[turn], *found)
            turn += 1
    if turn != len(refs) or waiting:
        raise EngineError(f"The cluster answered for {turn + len(waiting):,} of {len(refs):,} files. Run it again.")


def _plain(value: Any) -> Any:  # Any: NumPy's integers, bytes, None
    return value.item() if isinstance(value, np.generic) else value


def _facts(result: Result) -> dict[str, Any]:  # Any: JSON
    if isinstance(result, Skip):
        return {"reason": str(result.reason), "detail": result.detail}
    metadata = asdict(result.metadata)
    taken = result.metadata.taken
    metadata["taken"] = None if taken is None else taken.isoformat()
    return {
        "hash": result.content_hash.hex(),
        "metadata": metadata,
        "embedded": result.embedding is not None,
        "look": None if result.look is None else result.look.hex(),
    }


def _error(facts: Mapping[str, Any]) -> ClipsearchError:  # Any: JSON
    """Return the error that a worker met; of the class that it had there, where that is one of ``errors``."""
    kind = getattr(errors, str(facts["error"]), EngineError)
    if not (isinstance(kind, type) and issubclass(kind, ClipsearchError)):
        kind = EngineError
    return kind(str(facts["message"]))


def _result(ref: ImageRef, answer: str, embedding: Floats) -> Result:
    try:
        facts = json.loads(answer)
        if "error" in facts:
            raise _error(facts)
        if "reason" in facts:
            return Skip(ref.path, SkipReason(facts["reason"]), str(facts["detail"]), ref.member)
        values = dict(facts["metadata"])
        values["taken"] = None if values["taken"] is None else datetime.fromisoformat(values["taken"])
        metadata = ImageMetadata(**values)
        look = None if facts["look"] is None else bytes.fromhex(facts["look"])
        return Embedded(ref, bytes.fromhex(facts["hash"]), metadata, embedding if facts["embedded"] else None, look)
    except (KeyError, TypeError, ValueError) as error:
        raise EngineError(
            f"A worker answered nonsense for {ref.display}: {error!r}. Is it of another version?"
        ) from error
