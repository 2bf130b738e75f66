"""Which decoder this is: another one may read what this one could not."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def decoder_name() -> str:
    """Return the versions of what decodes pictures, as in "clipsearch 0.1.0, pillow 12.3.0, pillow-heif 1.0.0"."""
    return ", ".join(map(_versioned, ("clipsearch", "pillow", "pillow-heif")))


def _versioned(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:  # run from its source, not installed
        return f"{package} of no version"
