"""Graphs in the ONNX format, run on a CPU by ONNX Runtime.

Precision: "auto" is float32, which gives torch's own embeddings two to three times as fast. "int8" runs another file,
quantised when it was exported: the scale of the activations is found anew for every batch, so that a row depends on
its batch in the third decimal. There is no bfloat16 here: ONNX Runtime has no such kernels on a CPU.
"""

import os
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from clipsearch.embed.runtime.memory import in_parts
from clipsearch.embed.runtime.per_process import PerProcess
from clipsearch.errors import InputError
from clipsearch.types import Floats

_BATCH = 16  # beyond this ONNX Runtime is slower again: what passes between layers falls out of the cache


# Threads that wait by spinning would take the cores from the processes that decode.
_SETTINGS = {"session.intra_op.allow_spinning": "0"}


class OnnxRuntime:
    """Runs graphs with ONNX Runtime; see ``runtime.base.Runtime``."""

    takes: ClassVar[Literal["modules", "graphs"]] = "graphs"

    def __init__(self, device: str = "auto", precision: str = "auto", threads: int | None = None) -> None:
        if device not in ("auto", "cpu"):
            raise InputError(f"The runtime 'onnx' runs on the CPU, not on {device!r}; use the runtime 'torch' there.")
        if precision not in ("auto", "fp32", "int8"):
            raise InputError(f"The runtime 'onnx' computes in fp32 or int8, not in {precision!r}.")
        self.device, self.batch_size = "cpu", _BATCH
        self.precision = "fp32" if precision == "auto" else precision
        self._threads = threads

    def prepare(self, tower: str) -> "Session":
        """Return the graph of a file, loaded when it is first run."""
        return Session(tower, self._threads, _SETTINGS)

    def run(self, tower: "Session", *inputs: NDArray[Any]) -> Floats:  # Any: uint8 pixels, int64 or float32
        """Run a graph over the rows of its inputs, which come in the order of the graph's own.

        Raises:
            InputError: memory runs out even for a single row.
        """
        return in_parts(self, tower.run, inputs)


class Session:
    """An ONNX Runtime session, made on first use, and anew after a fork, which it would not survive."""

    def __init__(
        self, path: str | os.PathLike[str], threads: int | None, settings: Mapping[str, str] | None = None
    ) -> None:
        """Say what to load.

        Args:
            path: file of the graph.
            threads: CPU threads; None leaves ONNX Runtime's own choice.
            settings: entries of the session's configuration.
        """
        self._path, self._threads, self._settings = os.fspath(path), threads, dict(settings or {})
        self._session = PerProcess(self._make)

    @property
    def is_loaded(self) -> bool:
        """Whether the file has been read in this process."""
        return self._session.is_made

    def run(self, inputs: list[NDArray[Any]]) -> Floats:  # Any: as the graph wants them
        """Return the graph's only output for its inputs, in their order."""
        session = self._session.get()
        names = [one.name for one in session.get_inputs()]
        return session.run(None, dict(zip(names, map(np.ascontiguousarray, inputs), strict=True)))[0]

    def _make(self) -> Any:  # Any: onnxruntime has no types
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        for key, value in self._settings.items():
            options.add_session_config_entry(key, value)
        if self._threads is not None:
            options.intra_op_num_threads = self._threads
        return onnxruntime.InferenceSession(self._path, options, providers=["CPUExecutionProvider"])
