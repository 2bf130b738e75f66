"""Room 2: the bytes of a file to upright RGB pixels, or a Skip with its reason.

Image files come from anywhere, and decoders are large C libraries: some files make them hang, crash or take all memory.
So nothing is decoded in the process of the user. ``DecodePool`` hands files to worker processes that can be killed;
what they cannot decode becomes a ``Skip`` with a reason from a closed list, and never an exception.

The steps for one image are in ``image.py``, the worker in ``worker.py``, its supervision in ``workers.py``.
"""

from typing import TYPE_CHECKING, Any

from clipsearch.decode.limits import DecodeFailure, DecodeLimits
from clipsearch.decode.query import decode_queries, decode_query
from clipsearch.decode.workers import DecodePool, DecodeRequest, Hashed

if TYPE_CHECKING:
    from clipsearch.decode.image import decode_image

__all__ = [
    "DecodeFailure",
    "DecodeLimits",
    "DecodePool",
    "DecodeRequest",
    "Hashed",
    "decode_image",
    "decode_queries",
    "decode_query",
]


def __getattr__(name: str) -> Any:  # Any: a module's attribute
    if name == "decode_image":  # needs PIL, which the supervisor does without
        from clipsearch.decode.image import decode_image

        return decode_image
    raise AttributeError(f"module 'clipsearch.decode' has no attribute {name!r}")
