"""Towers in torch, on a CPU or on CUDA.

Precision, and why:

- On CUDA "auto" is autocast to bfloat16 (float16 where the card has no bfloat16): weights stay float32.
- On a CPU "auto" casts the weights to bfloat16 where the processor multiplies it itself, else it is float32. What that
  gains and costs: ``benchmarks/stages/embed_speed.py`` and ``embed_precision.py``. Autocast is a trap there: at batch 8
  it ran at a third of float32's speed.

When memory runs out the batch is halved, see ``memory``.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from clipsearch.embed.processor import has_bfloat16
from clipsearch.embed.runtime.base import PRECISIONS, Tower
from clipsearch.embed.runtime.memory import in_parts
from clipsearch.errors import InputError
from clipsearch.types import Floats

_NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
_BATCH_CPU, _BATCH_CUDA = 64, 512


class TorchRuntime:
    """Runs towers with torch; see ``runtime.base.Runtime``.

    Attributes:
        casts_weights: whether ``prepare`` changes the numbers of the weights.
    """

    takes: ClassVar[Literal["modules", "graphs"]] = "modules"

    def __init__(self, device: str = "auto", precision: str = "auto", threads: int | None = None) -> None:
        if precision not in PRECISIONS:
            raise InputError(f"No precision is called {precision!r}. Known: {', '.join(PRECISIONS)}.")
        self._device = _device(device)
        self.device = str(self._device)
        self._on_cuda = self._device.type == "cuda"
        if precision == "fp16" and not self._on_cuda:
            raise InputError(f"float16 is for CUDA; on {self.device} use precision 'fp32' or 'bf16'.")
        if precision == "int8":
            raise InputError("torch computes in fp32, bf16 or fp16 here; int8 is for the runtime 'onnx'.")
        self._autocast = _autocast_type() if self._on_cuda and precision == "auto" else None
        if precision == "auto" and not self._on_cuda:
            precision = "bf16" if has_bfloat16() else "fp32"
        self._weights = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
        self.precision = _NAMES[self._autocast or self._weights]
        self.casts_weights = self._weights != torch.float32
        self.batch_size = _BATCH_CUDA if self._on_cuda else _BATCH_CPU
        if threads is not None:
            torch.set_num_threads(threads)  # torch has this one setting for the whole process

    def prepare(self, module: torch.nn.Module) -> torch.nn.Module:
        """Bring a module to the device, in evaluation mode and in the precision asked for; return it."""
        module = module.eval().requires_grad_(False).to(device=self._device, dtype=self._weights)
        # Convolutions on CUDA are faster with the channels last; a CPU keeps the layout of open_clip, to the last bit.
        return module.to(memory_format=torch.channels_last) if self._on_cuda else module  # pyright: ignore[reportCallIssue]

    def tensor(self, values: Any) -> torch.Tensor:  # Any: whatever torch.tensor takes
        """Return a constant, float32, on the device."""
        return torch.tensor(values, dtype=torch.float32, device=self._device)

    def cast(self, x: torch.Tensor) -> torch.Tensor:
        """Return a float tensor in the type of the weights."""
        return x.to(self._weights)

    def run(self, tower: Tower, *inputs: NDArray[Any]) -> Floats:  # Any: uint8 pixels or int64 tokens
        """Run a tower over the rows of its inputs, at most ``batch_size`` at once.

        Raises:
            InputError: memory runs out even for a single row.
        """
        return in_parts(self, lambda part: self._run(tower, part), inputs, self._free)

    def _run(self, tower: Tower, inputs: Sequence[NDArray[Any]]) -> Floats:  # Any: as for run
        autocast = torch.autocast("cuda", dtype=self._autocast) if self._autocast else nullcontext()
        with torch.inference_mode(), autocast:
            return tower(*map(self._upload, inputs)).float().cpu().numpy()

    def _free(self) -> None:
        if self._on_cuda:
            torch.cuda.empty_cache()

    def _upload(self, rows: NDArray[Any]) -> torch.Tensor:  # Any: as for run
        """Bring rows to the device as they are: uint8 pixels cost a quarter of float32 on the bus."""
        tensor = torch.from_numpy(np.require(rows, requirements=["C", "W"]))
        return tensor.pin_memory().to(self._device, non_blocking=True) if self._on_cuda else tensor.to(self._device)


def cuda_devices() -> tuple[str, ...]:
    """Return the names of all CUDA devices that torch sees."""
    return tuple(f"cuda:{i}" for i in range(torch.cuda.device_count()))


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"No device is called {name!r}. Use 'auto', 'cpu', 'cuda' or 'cuda:1'.") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"There is no device {name!r} here: torch sees {torch.cuda.device_count()} CUDA devices.")
    return device


def _autocast_type() -> torch.dtype:
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
