"""The child process that decodes: one request in, one answer out, until the supervisor ends.

It is made to die well. A timer of the system kills it when one file takes too long, even inside a decoder that never
returns to Python. A pipe from the supervisor does the same when the supervisor is gone, however it went. Memory is
limited, Ctrl-C is the supervisor's to handle, and whatever C libraries print goes to a file that nobody sees unless
the worker dies of it.
"""

import fcntl
import hashlib
import os
import resource
import select
import signal
import socket
import sys
from dataclasses import asdict, replace
from importlib import import_module
from typing import Any

from PIL import Image

from clipsearch import frames
from clipsearch.decode.image import decode_image
from clipsearch.decode.limits import DecodeFailure, DecodeLimits
from clipsearch.decode.phash import perceptual_hash
from clipsearch.decode.read import hash_bytes, read_bytes
from clipsearch.types import ImageMetadata, ImageRef, Pixels, SkipReason

_LIFELINE = 0  # stdin: a pipe whose other end only the supervisor holds
_NOISE = 2  # stderr: a file of ours


def main(descriptor: int) -> None:
    """Serve requests that arrive on an inherited socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # a mask is inherited
    _die_with_supervisor()
    with socket.socket(fileno=descriptor) as connection:
        try:
            setup, _ = frames.receive(connection)
            decoder = _Decoder(setup)
        except Exception as error:
            frames.send(connection, {"ready": False, "why": f"{type(error).__name__}: {error}"})
            return
        frames.send(connection, {"ready": True})
        try:
            while True:
                header, body = frames.receive(connection)
                frames.send(connection, *decoder.answer(header, body))
        except (frames.FrameError, OSError):
            return  # the supervisor has ended


def _die_with_supervisor() -> None:
    """Ask for a signal when the lifeline closes. Unlike PR_SET_PDEATHSIG it does not depend on the parent's threads."""
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(_LIFELINE, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(_LIFELINE, fcntl.F_GETFL)
    fcntl.fcntl(_LIFELINE, fcntl.F_SETFL, flags | os.O_ASYNC)
    if select.select([_LIFELINE], [], [], 0)[0]:  # it closed before the signal was asked for
        os._exit(0)


class _Decoder:
    """Answers requests; holds the preprocessing and the limits."""

    def __init__(self, setup: frames.Header) -> None:
        self.limits = DecodeLimits(**setup["limits"])
        self.scaled = bool(setup["scaled"])
        module, _, attribute = setup["preprocess"]["factory"].partition(":")
        self.preprocess = getattr(import_module(module), attribute)(**setup["preprocess"]["kwargs"])
        Image.MAX_IMAGE_PIXELS = self.limits.max_pixels
        _limit_memory(self.limits.memory_bytes)

    def answer(self, header: frames.Header, body: bytearray) -> tuple[frames.Header, bytes | memoryview]:
        """Return the frame that answers a request; arms the timer that kills this process."""
        signal.setitimer(signal.ITIMER_REAL, self.limits.seconds)
        try:
            return self._decode(header, body)
        except DecodeFailure as failure:
            return {"reason": str(failure.reason), "detail": failure.detail}, b""
        except MemoryError:
            return {"reason": str(SkipReason.DECODE_MEMORY), "detail": "no memory to read the file"}, b""
        except Exception as error:
            return {"reason": str(SkipReason.CORRUPT), "detail": f"{type(error).__name__}: {error}"[:300]}, b""
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            os.ftruncate(_NOISE, 0)

    def _decode(self, header: frames.Header, body: bytearray) -> tuple[frames.Header, bytes | memoryview]:
        if header["kind"] == "bytes":
            data = bytes(body)
        else:
            ref = _ref(header, bytes(body))
            if header["kind"] == "hash":
                return {"hash": hash_bytes(ref, self.limits.max_bytes).hex()}, b""
            data = read_bytes(ref, self.limits.max_bytes)
        metadata, pixels = decode_image(data, self.preprocess, self.limits, self.scaled)
        digest, flat = hashlib.sha256(data).hexdigest(), _flat(pixels)
        metadata = replace(metadata, phash=perceptual_hash(pixels))
        return {"hash": digest, "shape": pixels.shape, "metadata": _plain(metadata)}, memoryview(flat)


def _ref(header: frames.Header, path: bytes) -> ImageRef:
    """Rebuild what reading needs; the path is absolute, the member's name does not matter here."""
    member = b"" if header["member"] else None
    return ImageRef(b"/", path, member, header["size"], header["mtime_ns"], header["ctime_ns"], header["offset"])


def _plain(metadata: ImageMetadata) -> dict[str, Any]:  # Any: JSON values
    values = asdict(metadata)
    values["taken"] = metadata.taken.isoformat() if metadata.taken else None
    return values


def _flat(pixels: Pixels) -> bytes:
    if pixels.dtype.name != "uint8" or pixels.ndim != 3:
        raise TypeError(f"preprocessing gave {pixels.dtype} {pixels.shape}, not uint8 (S, S, 3)")
    return pixels.tobytes()


def _limit_memory(extra: int) -> None:
    """Allow so much address space on top of what the process has now, and no files to be written."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))  # for the noise
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        with open("/proc/self/statm", "rb") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return  # not Linux: the supervisor's time limit remains
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = used + extra
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))


if __name__ == "__main__":
    main(int(sys.argv[1]))
