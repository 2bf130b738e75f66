"""An environment for each contender: its library from the package index, at the version in ``requirements/``."""

import os
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parent / "contenders" / "requirements"
HARNESS = "harness"  # what the harness itself takes besides clipsearch[cpu]; nobody's environment


def set_up(envs: str, names: list[str] | None = None) -> None:
    """Make the environments that are not there yet.

    Raises:
        subprocess.CalledProcessError: a package could not be installed; pip has said why.
    """
    for file in sorted(REQUIREMENTS.glob("*.txt")):
        folder = os.path.join(envs, file.stem)
        if file.stem == HARNESS or (names and file.stem not in names) or os.path.exists(folder):
            continue
        print(f"{file.stem}: {folder}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        try:
            subprocess.run([os.path.join(folder, "bin", "pip"), "install", "-q", "-r", str(file)], check=True)
        except subprocess.CalledProcessError:
            os.rename(folder, f"{folder}.failed")  # so that the next run does not take it for whole
            raise
