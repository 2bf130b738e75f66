"""What runs which tower of an open_clip model. Looks at packages, files and the processor; imports nothing heavy.

A runtime that is named runs both towers, but a text tower that cannot be exported stays with torch. With "auto":

- an NVIDIA card is used through torch for pictures;
- *pictures* on a CPU go to the first that is here of: OpenVINO, then torch in bfloat16 where the processor has it, then
  ONNX Runtime in float32 (to compare them: ``benchmarks/stages/embed_speed.py``);
- *texts* go to ONNX Runtime: a query is one short text, and torch alone takes longer to import than that takes.

"auto" uses exports that are there (``clipsearch models export``) and makes none: no search should begin with a minute
of exporting.
"""

import os
from dataclasses import dataclass
from importlib.util import find_spec

from clipsearch.embed.processor import has_bfloat16

_DEVICES = ("/dev/nvidiactl", "/dev/dxg")  # NVIDIA's driver on Linux, and under Windows' Linux


@dataclass(frozen=True, slots=True)
class Chosen:
    """The runtimes of the two towers: names from ``RUNTIMES``."""

    image: str
    text: str

    @property
    def words(self) -> str:
        """The choice in words."""
        return f"pictures by {self.image}, texts by {self.text}"


def choose_runtime(runtime: str, device: str, precision: str, *, text_is_exported: bool) -> Chosen:
    """Return what runs the towers of a model whose image tower is exported.

    Args:
        runtime: name from ``RUNTIMES``, or "auto".
        device: as for ``load_encoder``.
        precision: as for ``load_encoder``.
        text_is_exported: whether its text tower is.
    """
    if runtime != "auto":
        return Chosen(runtime, runtime if text_is_exported else "torch")
    if device not in ("auto", "cpu") or precision == "fp16":
        return Chosen("torch", "torch")
    image = _fastest(device, precision)
    return Chosen(image, "onnx" if text_is_exported and precision != "bf16" else image if text_is_exported else "torch")


def _fastest(device: str, precision: str) -> str:
    """Name what embeds pictures fastest here."""
    has_torch = all(find_spec(package) is not None for package in ("torch", "open_clip"))
    if precision == "int8":
        return "onnx"
    if device == "auto" and has_torch and any(map(os.path.exists, _DEVICES)):
        return "torch"
    if find_spec("openvino") is not None:
        return "openvino"
    if precision == "bf16" or (precision == "auto" and has_bfloat16() and has_torch):
        return "torch"
    return "onnx"
