"""Graphs in the ONNX format, run on a CPU by OpenVINO: an extra, quick on processors with bfloat16.

Precision: "auto" is bfloat16 where the processor multiplies it itself, else float32; both run the float32 graph, and
OpenVINO converts it when it is loaded, which takes a few seconds.
"""

import threading
from importlib import import_module
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from clipsearch.embed.processor import has_bfloat16
from clipsearch.embed.runtime.memory import in_parts
from clipsearch.embed.runtime.per_process import PerProcess
from clipsearch.errors import InputError, MissingExtraError
from clipsearch.types import Floats

_BATCH = 32
_HINTS = {"fp32": "f32", "bf16": "bf16"}


class OpenVinoRuntime:
    """Runs graphs with OpenVINO; see ``runtime.base.Runtime``."""

    takes: ClassVar[Literal["modules", "graphs"]] = "graphs"

    def __init__(self, device: str = "auto", precision: str = "auto", threads: int | None = None) -> None:
        if device not in ("auto", "cpu"):
            raise InputError(f"The runtime 'openvino' runs on the CPU here, not on {device!r}; use 'torch' there.")
        if precision == "auto":
            precision = "bf16" if has_bfloat16() else "fp32"
        if precision not in _HINTS:
            raise InputError(f"The runtime 'openvino' computes in fp32 or bf16 here, not in {precision!r}.")
        self.device, self.batch_size, self.precision = "cpu", _BATCH, precision
        self._threads = threads

    def prepare(self, tower: str) -> "PerProcess[_Compiled]":
        """Return the graph of a file, compiled when it is first run.

        Raises:
            MissingExtraError: OpenVINO is not installed.
        """
        try:
            openvino = import_module("openvino")
        except ImportError as error:
            raise MissingExtraError(
                "The runtime 'openvino' is not installed.\nInstall with: pip install 'clipsearch[openvino]'"
            ) from error
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": _HINTS[self.precision], "PERFORMANCE_HINT": "LATENCY"}
        if self._threads is not None:
            settings["INFERENCE_NUM_THREADS"] = self._threads
        return PerProcess(lambda: _Compiled(openvino.Core().compile_model(tower, "CPU", settings)))

    def run(self, tower: "PerProcess[_Compiled]", *inputs: NDArray[Any]) -> Floats:  # Any: as for the base
        """Run a graph over the rows of its inputs, which come in the order of the graph's own.

        Raises:
            InputError: memory runs out even for a single row.
        """
        compiled = tower.get()
        return in_parts(self, compiled.run, inputs, compiled.forget)


class _Compiled:
    """A compiled graph; each thread has a request of its own, since a request serves one call at a time."""

    def __init__(self, model: Any) -> None:  # Any: openvino.CompiledModel, of a package that may be absent
        self._model = model
        self._threads = threading.local()

    def run(self, inputs: list[NDArray[Any]]) -> Floats:  # Any: as the graph wants them
        request = getattr(self._threads, "request", None)
        if request is None:
            request = self._threads.request = self._model.create_infer_request()
        request.infer([np.ascontiguousarray(rows) for rows in inputs])
        return np.array(request.get_output_tensor(0).data, np.float32)  # a copy: the tensor is used again

    def forget(self) -> None:
        """Drop this thread's request: one that found no memory asks for as much again, whatever it is given."""
        self._threads.request = None
