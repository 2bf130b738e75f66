"""Names of devices: one, several with commas between, or "all"."""

from importlib import import_module
from importlib.util import find_spec

from clipsearch.errors import InputError


def devices_of(names: str) -> tuple[str, ...]:
    """Return the devices that a setting names, at least one.

    Args:
        names: "auto", "cpu", "cuda:1", ...; "cuda:0,cuda:1" for several; "all" for every CUDA device.

    Raises:
        InputError: a name is empty, or "all" finds no CUDA device.
    """
    if names == "all":
        return _cuda_devices()
    devices = tuple(name.strip() for name in names.split(","))
    if not all(devices):
        raise InputError(f"The devices {names!r} hold an empty name. Write them as in 'cuda:0,cuda:1'.")
    return devices


def _cuda_devices() -> tuple[str, ...]:
    found = ()
    if find_spec("torch") is not None:
        found = import_module("clipsearch.embed.runtime.torch").cuda_devices()
    if not found:
        raise InputError(
            "The device 'all' means every CUDA device, and torch finds none here.\n"
            "Leave the device out to run on what there is, or name it: 'cpu'."
        )
    return found
