"""Rows given as columns: how ready embeddings come in by the million.

A row object, a dictionary and a JSON encoder for each row cost more than all that is done with its embedding. Here a
shard is made column by column; the bytes on the disk are of the same form as those that ``ImageRow`` objects become.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from json.encoder import encode_basestring
from typing import Any

import numpy as np

from clipsearch.store.codec import bytes_to_json, dumps, encode_value
from clipsearch.store.schema import COLUMNS, REQUIRED
from clipsearch.types import Halves, Ints

_EXPONENT = np.uint16(0x7C00)  # all ones in a float16 that is infinite or NaN
NO_HASH = bytes(32)  # the content hash of a picture whose bytes nobody here has seen


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """New rows of one kind, as columns.

    Attributes:
        ids: (n,) ascending, from ``Writer.new_ids``.
        embeddings: (n, D) float16, finite.
        values: column → n values, as in ``ImageRow`` or ``TextRow``.
        constants: column → the value of all rows. A column in neither is None.
    """

    ids: Ints
    embeddings: Halves
    values: Mapping[str, Sequence[Any]]  # Any: as the column's type says
    constants: Mapping[str, Any] = field(default_factory=dict)

    def check(self, kind: str, dim: int) -> None:
        """Raise ValueError where the columns do not fit each other or their kind."""
        n = len(self.ids)
        if self.embeddings.shape != (n, dim) or self.embeddings.dtype != np.float16:
            raise ValueError(f"The embeddings are {self.embeddings.dtype} {self.embeddings.shape}, not ({n}, {dim}).")
        if ((self.embeddings.view(np.uint16) & _EXPONENT) == _EXPONENT).any():  # four times as fast as isfinite
            raise ValueError("The embeddings hold NaN or infinity; none is stored.")
        if n > 1 and not (np.diff(self.ids) > 0).all():
            raise ValueError("The ids of a shard must ascend.")
        given = {*self.values, *self.constants, "id"}
        wrong = {*(given - set(COLUMNS[kind])), *((REQUIRED & set(COLUMNS[kind])) - given)}
        wrong |= {name for name, values in self.values.items() if len(values) != n}
        if wrong:
            raise ValueError(f"Columns that are unknown, missing or of another length: {', '.join(sorted(wrong))}.")


def json_lines(kind: str, columns: Columns) -> list[bytes]:
    """Return each row as the JSON line that ``sidecar.encode`` makes of it; None is left out."""
    types = COLUMNS[kind]
    same = {name: encode_value(types[name], value) for name, value in columns.constants.items() if value is not None}
    tail = "".join(f",{dumps({name: value}).decode()[1:-1]}" for name, value in same.items()) + "}\n"
    parts: list[Sequence[str]] = [[f'{{"id":{id_}' for id_ in columns.ids.tolist()]]
    parts += [_fragments(name, types[name], values) for name, values in columns.values.items()]
    return [("".join(row) + tail).encode("utf-8") for row in zip(*parts, strict=True)]


def _fragments(name: str, type_: str, values: Sequence[Any]) -> list[str]:
    """Return ``,"name":value`` for each value, "" for None."""
    head = f',"{name}":'
    if type_ in ("int64", "int32"):
        return ["" if value is None else f"{head}{value}" for value in values]
    if type_ == "bytes":
        return ["" if value is None else head + _bytes(value) for value in values]
    return ["" if value is None else head + dumps(encode_value(type_, value)).decode() for value in values]


def _bytes(value: bytes) -> str:
    try:
        return encode_basestring(value.decode("utf-8"))
    except UnicodeDecodeError:
        return dumps(bytes_to_json(value)).decode()
