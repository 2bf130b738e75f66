"""What a runtime promises: it runs a tower over a batch and gives an array. It knows nothing of any family.

A tower comes to it in one of two kinds, told apart by ``takes``: a *module* of torch, or the path of a *graph*, a
file in the ONNX format that was exported once (``clipsearch.embed.export``). Either way ``prepare`` makes of it
whatever the runtime wants, and ``run`` takes arrays of numpy.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Literal, Protocol

from numpy.typing import NDArray

from clipsearch.types import Floats

PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")
Tower = Callable[..., Any]  # Any: the runtime's own tensors, such as torch.Tensor


class Runtime(Protocol):
    """Runs towers on one device with one precision.

    Attributes:
        takes: what ``prepare`` wants: a torch module, or the path of a graph.
        device: where it runs, such as "cpu" or "cuda:0".
        precision: the numbers it computes in, "auto" resolved: "fp32", "bf16", "fp16", "int8".
        batch_size: most rows that go through a tower at once; it shrinks when memory runs out.
    """

    takes: ClassVar[Literal["modules", "graphs"]]
    device: str
    precision: str
    batch_size: int

    def prepare(self, tower: Any) -> Any:  # Any: torch.nn.Module or str in, the runtime's own out
        """Make a tower ready to run on the device, in the precision asked for; return it."""
        ...

    def run(self, tower: Any, *inputs: NDArray[Any]) -> Floats:  # Any: what prepare gave; uint8, int64 or float32
        """Run a tower over the rows of its inputs, in parts as memory allows; float32, one row for each row in."""
        ...
