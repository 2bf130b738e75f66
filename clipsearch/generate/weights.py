"""The digest of a pipeline's weights, remembered as long as its files stay as they are.

Hashing 16 GB takes a while, so digests of single files are kept by path, size and time. The digest is over names and
contents of all files that decide pixels: weights, configurations, tokenizers.
"""

import hashlib
import json
import os
from contextlib import suppress

from clipsearch.generate.cache import write_whole

_DECIDING = (".safetensors", ".json", ".txt", ".model", ".onnx")

# Weights that ship inside, by family; "" for a family without any.
SHIPPED = {"gradient": "", "mini": os.path.join(os.path.dirname(__file__), "shipped", "mini")}


def weights_digest(folder: str, memory: str | None = None) -> str:
    """Return the SHA-256 (hex) of the files in a pipeline's folder.

    Args:
        folder: where they are.
        memory: file that remembers digests; need not exist.
    """
    known = _recall(memory)
    seen: dict[str, str] = {}
    digest = hashlib.sha256()
    for name in _files(folder):
        path = os.path.join(folder, name)
        status = os.stat(path)
        key = f"{os.path.realpath(path)} {status.st_size} {status.st_mtime_ns} {status.st_ino}"
        seen[key] = known.get(key) or _sha256(path)
        digest.update(f"{name}\0{seen[key]}\n".encode("utf-8", "surrogateescape"))
    if memory is not None and any(key not in known for key in seen):
        with suppress(OSError):  # it only saves time
            os.makedirs(os.path.dirname(memory), 0o700, exist_ok=True)
            write_whole(memory, json.dumps({**known, **seen}).encode())
    return digest.hexdigest()


def _files(folder: str) -> list[str]:
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [os.path.relpath(os.path.join(place, name), folder) for name in names if name.endswith(_DECIDING)]
    return sorted(found)


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _recall(memory: str | None) -> dict[str, str]:
    if memory is not None:
        with suppress(OSError, ValueError), open(memory, encoding="utf-8") as file:
            return {str(key): str(value) for key, value in json.load(file).items()}
    return {}
