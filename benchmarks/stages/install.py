"""Time, size and number of packages of each install, and the wheel's size.

    python benchmarks/stages/install.py [--extras none cpu gpu] [--out benchmarks/results/install.jsonl]

Each install goes into a fresh virtual environment from a wheel built here; pip's download cache is off.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from results import append, machine


def size_mb(folder: Path) -> float:
    """Return the bytes of all files below a folder, in MB (10^6)."""
    return round(
        sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()) / 1e6, 1
    )


def build_wheel(folder: Path) -> Path:
    """Build the wheel of this checkout."""
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(root)], check=True)
    return next(folder.glob("*.whl"))


def measure(extra: str, wheel: Path, folder: Path) -> dict[str, float | int | str]:
    """Install the wheel with one extra into a fresh environment."""
    venv = folder / f"venv-{extra}"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    before, python = size_mb(venv), str(venv / "bin" / "python")
    target = str(wheel) if extra == "none" else f"{wheel}[{extra}]"
    start = time.perf_counter()
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-cache-dir", target], check=True)
    seconds = time.perf_counter() - start
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format", "json"], check=True, capture_output=True, text=True
    )
    packages = [row for row in json.loads(listed.stdout) if row["name"] not in ("pip", "setuptools")]
    return {
        "install": extra,
        "seconds": round(seconds, 1),
        "size_mb": round(size_mb(venv) - before, 1),
        "packages": len(packages),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extras", nargs="+", default=["none", "cpu", "gpu"])
    parser.add_argument("--out", default="benchmarks/results/install.jsonl")
    options = parser.parse_args()
    Path(options.out).parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        wheel = build_wheel(Path(temporary))
        wheel_mb = round(wheel.stat().st_size / 1e6, 1)
        for extra in options.extras:
            record = {"stage": "install", **measure(extra, wheel, Path(temporary)), "wheel_mb": wheel_mb}
            print(record)
            append(options.out, {**record, "date": time.strftime("%Y-%m-%d"), **machine()})


if __name__ == "__main__":
    main()
