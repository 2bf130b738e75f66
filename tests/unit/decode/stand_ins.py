"""Preprocessing stand-ins for the decode tests: a plain one, and ones that go wrong on a picture of one colour.

Workers import this module by the name in the spec. The colour of a picture says what happens to it:
red misbehaves as the stand-in says, anything else is decoded.
"""

import contextlib
import os
import signal
import sys
import time
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Plain:
    size: int = 32
    trouble: str = ""

    def spec(self):
        return {"factory": f"{__name__}:{type(self).__name__}", "kwargs": {"size": self.size, "trouble": self.trouble}}

    def __call__(self, image):
        assert image.mode == "RGB"
        pixels = np.asarray(image.resize((self.size, self.size)))
        red, green, blue = pixels.reshape(-1, 3).mean(0)
        if self.trouble and red > 200 and green < 60 and blue < 60:
            TROUBLES[self.trouble]()
        return pixels


def hang():
    time.sleep(600)


def hang_in_c():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    signal.sigwait({signal.SIGUSR1})


def stop():
    os.kill(os.getpid(), signal.SIGSTOP)


def leave():
    os.write(2, b"the library says goodbye\n")
    os._exit(7)


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def allocate():
    np.ones(3 << 30, np.uint8)


def fail():
    raise RuntimeError("no pixels today")


def babble():
    with contextlib.suppress(OSError):  # a C library does not look either
        for _ in range(1000):
            os.write(2, b"x" * 10_000)
    sys.stdout.write("noise\n")


TROUBLES = {f.__name__: f for f in (hang, hang_in_c, stop, leave, killed, allocate, fail, babble)}


class Unmakeable(Plain):
    def __init__(self, **_):
        if "pytest" not in sys.modules:
            raise ValueError("cannot be made here")

    size = 32
    trouble = ""
