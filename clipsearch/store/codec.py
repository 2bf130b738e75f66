"""Any bytes in JSON, readable where they are text.

File names are bytes. Nearly all of them are UTF-8 and stand in JSON as they are; any other is written
``{"base64": "..."}``, so no name is ever changed by storing it.
"""

import base64
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from clipsearch.store.schema import clean_text

Json = Any  # what json.loads returns


def bytes_to_json(value: bytes) -> Json:
    """Return a text for UTF-8, else an object with the bytes in base64."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode("ascii")}


def bytes_from_json(value: Json) -> bytes:
    """Return the bytes that ``bytes_to_json`` was given."""
    return value.encode("utf-8") if isinstance(value, str) else base64.b64decode(value["base64"], validate=True)


def dumps(value: Json) -> bytes:
    """Return compact JSON as UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def encode_value(type_: str, value: Any) -> Json:  # Any: a column value of that type
    """Return a column value (not None) as JSON holds it."""
    match type_:
        case "bytes":
            return bytes_to_json(value)
        case "hash":
            return value.hex()
        case "time":
            return value.isoformat()
        case "text":
            return clean_text(value)
        case _:
            return value


def decode_value(type_: str, value: Json) -> Any:  # Any: as above
    """Return the column value that ``encode_value`` was given."""
    decoder = _DECODERS.get(type_)
    return value if decoder is None or value is None else decoder(value)


_DECODERS: dict[str, Callable[[Json], Any]] = {
    "bytes": bytes_from_json,
    "hash": bytes.fromhex,
    "time": datetime.fromisoformat,
}  # a table, not a match: a walk over a million rows comes by here for every value
