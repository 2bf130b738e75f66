"""The generator of the benchmarks, for tests."""

import importlib.util
import sys
from pathlib import Path

_FILE = Path(__file__).parents[1] / "benchmarks" / "datasets.py"
_SPEC = importlib.util.spec_from_file_location("clipsearch_benchmark_datasets", _FILE)
assert _SPEC is not None and _SPEC.loader is not None
_MODULE = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = _MODULE
_SPEC.loader.exec_module(_MODULE)

Synthetic = _MODULE.Synthetic
