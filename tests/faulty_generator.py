"""Generators that go wrong in every way there is; the word in the prompt says which."""

import os
import signal
import sys
import time

import numpy as np

from clipsearch.generate.base import OutOfMemory, UnusablePicture
from clipsearch.generate.gradient import GradientGenerator


class FaultyGenerator(GradientGenerator):
    """Draws gradients unless the prompt says otherwise."""

    fp32 = offloaded = False

    def generate(self, prompt, n, seed, options=None, source=None):
        fault = prompt.split()[0]
        self._misbehave(fault)
        self._run_out(fault, n, options)
        drawn = super().generate(prompt, n, seed, options, source)
        if fault == "black":
            return np.zeros_like(drawn)
        if fault == "wrong-size":
            return drawn[:, :-8]
        if fault == "floats":
            return drawn.astype(np.float32)
        return np.zeros((n, 1 << 14, 1 << 14, 3), np.uint8) if fault == "huge" else drawn

    def _misbehave(self, fault):
        if fault == "hang":
            time.sleep(3600)
        elif fault == "raise":
            raise RuntimeError("the model is upset")
        elif fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif fault == "exit":
            print("last words", file=sys.stderr, flush=True)
            os._exit(7)
        elif fault == "print":
            print("noise on stdout")

    def _run_out(self, fault, n, options):
        if fault == "nan-until-fp32" and not self.fp32:
            raise UnusablePicture("NaN")
        if (
            (fault == "crowded" and n > 1)
            or (fault == "large" and (n > 1 or options.width > 256))
            or (fault == "heavy" and not self.offloaded)
            or fault == "never"
        ):
            raise OutOfMemory("never enough" if fault == "never" else "too much")

    def offload(self):
        before, self.offloaded = self.offloaded, True
        return not before

    def to_fp32(self):
        before, self.fp32 = self.fp32, True
        return not before
