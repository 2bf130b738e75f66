"""The child process that draws: one request in, one answer out, until the supervisor ends.

It may take all memory or never return, so nothing of it runs in the user's process. When memory is short, the kernel
takes this process first. When the supervisor is gone, however it went, the lifeline on stdin closes and it ends. Frames
carry JSON and bytes, no pickle. It never uses the network: weights are on this machine or nowhere.
"""

import os
import signal
import socket
import sys
import threading
from contextlib import suppress
from importlib import import_module
from typing import Any

import numpy as np

from clipsearch import frames
from clipsearch.errors import ClipsearchError
from clipsearch.generate.base import Options
from clipsearch.generate.cautious import Cautious


def main(descriptor: int) -> None:
    """Serve requests that arrive on an inherited socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # a mask is inherited
    threading.Thread(target=_end_with_supervisor, daemon=True).start()
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")
    with socket.socket(fileno=descriptor) as connection, suppress(frames.FrameError, OSError):
        setup, _ = frames.receive(connection)
        generator: Cautious | None = None
        while True:
            header, body = frames.receive(connection)
            try:
                generator = generator or _load(setup)
                answer, pixels = _draw(generator, header, body)
            except ClipsearchError as problem:
                answer, pixels = {"error": type(problem).__name__, "why": str(problem)}, b""
            except MemoryError:
                answer, pixels = {"error": "OutOfMemory", "why": "there is too little memory"}, b""
            except Exception as problem:
                why = f"{type(problem).__name__}: {problem}"
                answer, pixels = {"error": "GenerationError", "why": " ".join(why.split())[:400]}, b""
            frames.send(connection, answer, pixels)


def _end_with_supervisor() -> None:
    with suppress(OSError):
        while os.read(0, 1):
            pass
    os._exit(0)


def _load(setup: frames.Header) -> Cautious:
    extra = {"encoder": _named(setup["encoder"])()} if setup.get("encoder") else {}
    return Cautious(_named(setup["factory"])(setup["folder"], device=setup["device"], dtype=setup["dtype"], **extra))


def _named(place: str) -> Any:  # Any: a class of a family
    module, _, attribute = place.partition(":")
    return getattr(import_module(module), attribute)


def _draw(generator: Cautious, header: frames.Header, body: bytearray) -> tuple[frames.Header, bytes]:
    options = Options(**header["options"])
    shape = header.get("source")
    source = None if shape is None else np.frombuffer(body, np.uint8).reshape(shape)
    drawn = generator.generate(header["prompt"], header["n"], header["seed"], options, source)
    return {"shape": drawn.shape, "done": generator.done}, drawn.tobytes()


if __name__ == "__main__":
    main(int(sys.argv[1]))
