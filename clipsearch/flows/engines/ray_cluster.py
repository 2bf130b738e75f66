"""Be connected to a Ray cluster, or have one on this machine for as long as a run takes; and keep Ray quiet.

Ray speaks on stdout and stderr in four ways: its loggers, the lines of its workers, errors that it passes on to the
program, and its C++ core. All are silenced while a run lasts; Ray writes the same to its own logs (/tmp/ray).
"""

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray  # pyright: ignore[reportMissingImports]
import ray.data  # pyright: ignore[reportMissingImports]

from clipsearch.flows.engines.base import EngineError, gist

_STORE_BYTES = 512 << 20  # of a cluster of our own: answers are small, and they go as they come
_KNOCK_SECONDS = 10.0
_ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}


@contextmanager
def connected(address: str | None, cores: int) -> Iterator[None]:
    """Be connected to a cluster; one that the program is connected to already is used, and kept.

    Args:
        address: the cluster's address; None starts Ray on this machine and ends it afterwards.
        cores: what a cluster of our own shall count as its cores.

    Raises:
        EngineError: no cluster answers there, or Ray cannot be started.
    """
    if ray.is_initialized():
        yield
        return
    if address is not None:
        _knock(address)
    own = {"num_cpus": cores, "include_dashboard": False, "object_store_memory": _STORE_BYTES} if not address else {}
    with _quiet(), _environment(_ENVIRONMENT):
        try:
            with _handlers_kept(), _no_stderr():
                ray.init(address=address or "local", log_to_driver=False, logging_level=logging.CRITICAL, **own)
        except (OSError, RuntimeError, ValueError) as problem:  # ConnectionError is an OSError
            ray.shutdown()
            raise EngineError(_not_there(address, problem)) from problem
        try:
            yield
        finally:
            with _handlers_kept():
                ray.shutdown()


def machines() -> list[tuple[int, int]]:
    """Return (cores, GPUs) of each machine of the cluster."""
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [(int(resources.get("CPU", 0)), int(resources.get("GPU", 0))) for resources in alive]


def _knock(address: str) -> None:
    """See whether anything listens there: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        return  # "auto"
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_SECONDS).close()
    except (OSError, OverflowError) as problem:
        raise EngineError(_not_there(address, problem)) from problem


def _not_there(address: str | None, problem: Exception) -> str:
    root: BaseException = problem
    while root.__cause__ is not None:
        root = root.__cause__
    reason = gist(str(root)) or type(root).__name__
    if address is None:
        return f"Ray cannot be started on this machine: {reason}\nIts logs are in /tmp/ray/session_latest/logs."
    return f"No Ray cluster answers at {address}: {reason}\nLeave out the address to use this machine alone."


@contextmanager
def _environment(wanted: Mapping[str, str]) -> Iterator[None]:
    """Set variables that are not set; Ray reads these settings from nowhere else."""
    added = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Put back the handler of SIGTERM, which Ray replaces by one that exits without a word."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _no_stderr() -> Iterator[None]:
    """Close stderr while Ray starts: its core says there which level it was given before it follows it."""
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ray's messages off the terminal: its loggers by their handlers, the rest by its own switch."""
    from ray._private import worker  # pyright: ignore[reportMissingImports]

    levels: list[tuple[Any, int]] = []  # Any: handlers
    for name in ("ray", "ray.data", "ray.serve", "ray.tune"):
        for handler in logging.getLogger(name).handlers:
            if hasattr(handler, "stream") and not isinstance(handler, logging.FileHandler):
                levels.append((handler, handler.level))
                handler.setLevel(logging.CRITICAL + 1)
    switch = "_worker_logs_enabled"  # private, and the only one: the errors that Ray passes on go to stdout
    before = getattr(worker, switch, None)
    setattr(worker, switch, False)
    context = ray.data.DataContext.get_current()  # older Rays look here, and not at the dataset's own
    bars, context.enable_progress_bars = context.enable_progress_bars, False
    try:
        yield
    finally:
        context.enable_progress_bars = bars
        setattr(worker, switch, before)
        for handler, level in levels:
            handler.setLevel(level)
