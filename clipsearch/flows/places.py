"""Where a picture is on this machine, as one key."""

import os


def place_of(root: bytes, path: bytes, member: bytes | None) -> bytes:
    """Return the key of an image on this machine: absolute path, tar member behind a NUL."""
    place = os.path.join(root, path)
    return place if member is None else place + b"\0" + member
