"""The benchmarks lie beside the package, not in it: make them importable, whatever pytest was started from."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))
