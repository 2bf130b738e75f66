"""How the supervisor and a worker talk: frames of a JSON header and raw bytes, over a socket.

A frame is two lengths (unsigned 32-bit, big-endian), a JSON object and a body. JSON and not pickle: a worker that a
hostile picture has taken over can then send wrong answers, but no code.
"""

import json
import socket
import struct
from collections.abc import Iterator
from typing import Any

_LENGTHS = struct.Struct(">II")
_LONGEST_HEADER = 1 << 20
_LONGEST_BODY = 1 << 30

Header = dict[str, Any]  # Any: what JSON holds


class FrameError(Exception):
    """The other side ended or does not speak frames."""


def pack(header: Header, body: bytes | memoryview = b"") -> list[bytes | memoryview]:
    """Return a frame as buffers to send in one call."""
    text = json.dumps(header).encode("ascii")
    return [_LENGTHS.pack(len(text), len(body)) + text, body]


def send(connection: socket.socket, header: Header, body: bytes | memoryview = b"") -> None:
    """Send one frame; raises OSError when the other side has ended."""
    first, rest = pack(header, body)
    sent = connection.sendmsg([first, rest])
    for buffer in (first, rest):
        if sent < len(buffer):
            connection.sendall(memoryview(buffer)[sent:])
        sent = max(0, sent - len(buffer))


def receive(connection: socket.socket) -> tuple[Header, bytearray]:
    """Wait for one frame; raises FrameError when the other side has ended."""
    header_size, body_size = _lengths(_receive_exactly(connection, _LENGTHS.size))
    return json.loads(_receive_exactly(connection, header_size)), _receive_exactly(connection, body_size)


def _receive_exactly(connection: socket.socket, size: int) -> bytearray:
    data = bytearray(size)
    view, done = memoryview(data), 0
    while done < size:
        count = connection.recv_into(view[done:])
        if count == 0:
            raise FrameError("the connection has ended")
        done += count
    return data


def _lengths(data: bytes | bytearray) -> tuple[int, int]:
    header_size, body_size = _LENGTHS.unpack_from(data)
    if header_size > _LONGEST_HEADER or body_size > _LONGEST_BODY:
        raise FrameError("a frame has an impossible length")
    return header_size, body_size


class FrameBuffer:
    """Puts frames together from the pieces in which they arrive, for a reader that must not wait."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, piece: bytes) -> Iterator[tuple[Header, bytes]]:
        """Add a piece and yield the frames that are whole now.

        Raises:
            FrameError: the pieces are no frames.
        """
        self._data += piece
        while len(self._data) >= _LENGTHS.size:
            header_size, body_size = _lengths(self._data)
            start = _LENGTHS.size + header_size
            if len(self._data) < start + body_size:
                return
            header, body = self._data[_LENGTHS.size : start], bytes(self._data[start : start + body_size])
            del self._data[: start + body_size]
            try:
                yield json.loads(header), body
            except ValueError as error:
                raise FrameError("a frame has no JSON header") from error
