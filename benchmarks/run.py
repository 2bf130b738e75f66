"""Run a suite: build every entry, measure them in turn, write a table and plots.

    python -m benchmarks.run --setup                                   # an environment for each contender
    python -m benchmarks.run benchmarks/suites/index-100k.toml         # all stages
    python -m benchmarks.run SUITE --stage build --only hnswlib        # may run while the machine is busy
    python -m benchmarks.run SUITE --stage measure                     # wants a quiet machine
    python -m benchmarks.run SUITE --stage report                      # table and plots from the results again

What is built is not built again, a point that is measured is not measured again (``--again`` does both).
"""

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

from benchmarks import measure, report, results
from benchmarks.build import build
from benchmarks.environments import set_up
from benchmarks.prepare import Dataset, prepare
from benchmarks.suite import Suite, load_suite

HERE = Path(__file__).resolve().parent


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; return the exit code."""
    options = _parse(arguments)
    if options.setup:
        set_up(options.envs, options.only)
        if options.suite is None:
            return 0
    os.makedirs(options.out, exist_ok=True)
    try:
        suite = load_suite(options.suite)
        dataset = prepare(suite.dataset, options.cache)
        suite = replace(suite, rounds=options.rounds or suite.rounds)
    except (ValueError, OSError) as problem:
        print(problem, file=sys.stderr)
        return 2
    failed = 0
    if options.stage in ("build", "all"):
        failed = _build(suite, dataset, options)
    if options.stage in ("measure", "all"):
        path = os.path.join(options.out, f"{suite.name}.jsonl")
        asked = measure.Asked(options.build, options.envs, path, frozenset(options.only or ()), options.again)
        measure.measure(suite, dataset, asked)
    if options.stage != "build":
        report.write(suite.name, results.read(os.path.join(options.out, f"{suite.name}.jsonl")), options.out)
    return 1 if failed else 0


def _build(suite: Suite, dataset: Dataset, options: argparse.Namespace) -> int:
    failed = 0
    for entry in suite.entries:
        if options.only and entry.contender not in options.only:
            continue
        record = build(entry, dataset, options.build, options.envs, options.threads, options.again)
        what = record.get("error") or f"{record['seconds']:.0f} s, {record['cpu_seconds']:.0f} CPU s"
        print(f"built {entry.label}: {what}", flush=True)
        failed += "error" in record
    return failed


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", nargs="?", help="a TOML file of benchmarks/suites")
    parser.add_argument("--stage", choices=("build", "measure", "report", "all"), default="all")
    parser.add_argument("--only", type=lambda text: text.split(","), help="contenders, with commas between them")
    parser.add_argument("--again", action="store_true", help="build or measure anew what is there")
    parser.add_argument("--rounds", type=int, help="in place of the suite's")
    parser.add_argument("--setup", action="store_true", help="make the environments of the contenders")
    parser.add_argument("--threads", type=int, default=2, help="cores for building (default 2)")
    parser.add_argument("--envs", default=str(HERE / ".envs"), help="a folder, or 'current': this one for all")
    parser.add_argument("--cache", default=str(HERE / ".cache"), help="data sets")
    parser.add_argument("--build", default=str(HERE / ".build"), help="what was built")
    parser.add_argument("--out", default=str(HERE / "results"))
    options = parser.parse_args(arguments)
    if options.suite is None and not options.setup:
        parser.error("give a suite, or --setup")
    return options


if __name__ == "__main__":
    sys.exit(main())
