"""A Hugging Face cache as huggingface_hub lays it out, made by hand."""

from pathlib import Path


def cached(repository: str, cache: Path) -> Path:
    """Make the folder of a hub repository; return where its files go."""
    folder = cache / ("models--" + repository.replace("/", "--"))
    files = folder / "snapshots" / "0123abcd"
    files.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0123abcd")
    return files
