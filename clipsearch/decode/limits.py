"""What a file may cost before it is left out, and how decoding says that it is left out."""

from dataclasses import dataclass

from clipsearch.types import SkipReason

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """Limits of one file.

    Attributes:
        max_pixels: width times height; the default costs at most about 800 MB to decode.
        max_bytes: size of the file.
        max_scans: scans of a progressive JPEG. A camera writes about ten; a file of 345 KB can hold enough of
            them for 43 s of decoding.
        seconds: wall time from reading the file to pixels; then its process is killed.
        memory_bytes: address space a worker may take on top of what it has when it starts.
    """

    max_pixels: int = 178_956_970 // 2
    max_bytes: int = 512 * MIB
    max_scans: int = 256
    seconds: float = 10.0
    memory_bytes: int = 1536 * MIB


class DecodeFailure(Exception):
    """One image cannot be decoded; it never leaves the room, where it becomes a Skip."""

    def __init__(self, reason: SkipReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
