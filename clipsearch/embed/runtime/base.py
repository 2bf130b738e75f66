"""What a runtime promises: it runs a tower over a batch and gives an array. It knows nothing of any family."""

from collections.abc import Callable
from typing import Any, Protocol

from numpy.typing import NDArray

from clipsearch.types import Floats

Tower = Callable[[Any], Any]  # Any: the runtime's own tensors, such as torch.Tensor


class Runtime(Protocol):
    """Runs towers on one device with one precision.

    Attributes:
        device: where it runs, such as "cpu" or "cuda:0".
        batch_size: most rows that go through a tower at once; it shrinks when memory runs out.
        casts_weights: whether ``prepare`` changes the numbers of the weights.
    """

    device: str
    batch_size: int
    casts_weights: bool

    def prepare(self, module: Any) -> Any:  # Any: the runtime's own modules, such as torch.nn.Module
        """Bring a module to the device, in evaluation mode and in the precision asked for; return it."""
        ...

    def tensor(self, values: Any) -> Any:  # Any: numbers in, the runtime's own tensor out
        """Return a constant, float32, on the device."""
        ...

    def run(self, tower: Tower, batch: NDArray[Any]) -> Floats:  # Any: uint8 pixels or int64 tokens
        """Run a tower over the rows of a batch, in parts as memory allows; float32 out, one row for each row in."""
        ...
