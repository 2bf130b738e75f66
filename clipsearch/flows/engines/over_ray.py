"""Decode and embed over a cluster, by Ray Data.

The files become a dataset of plain columns in blocks of some hundred rows. Workers, each with a copy of the encoder,
turn blocks into answers, and the answers stream back to the one process that holds the collection's lock and writes.
Ray restarts a worker that dies and gives the blocks that it had in hand to others; a block that is done twice gives
the same answers twice and only one of them arrives. If this process dies, what it committed is there, and the next
run embeds the rest.

A worker reads the pictures itself: each machine must see them under the same path, as on a shared drive. A file that
is there for this process and not for a worker stops the run: taken for a vanished one, it would be lost.
"""

import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from clipsearch.embed.base import Encoder
from clipsearch.errors import InputError, MissingExtraError
from clipsearch.flows.engines.base import EngineError, EngineSettings, Result, Work, cut, gist, timed_iteration
from clipsearch.types import ImageRef, Skip, SkipReason

_BLOCK = 8  # batches a block: few enough to be done again, enough that the encoder seldom waits between two


def open_ray(encoder: Encoder, settings: EngineSettings) -> "RayEngine":
    """Return the engine that works over a cluster; it is started, or connected to, when there is work.

    Raises:
        MissingExtraError: Ray is not installed.
        InputError: the device is one of several; Ray deals them out itself.
    """
    if find_spec("ray") is None or find_spec("ray.data") is None:
        raise MissingExtraError(
            "The engine 'ray' needs Ray Data, which this Python does not have.\n"
            "Install with: pip install 'clipsearch[ray]'"
        )
    if settings.device not in ("auto", "cpu", "cuda"):
        raise InputError(
            f"The engine 'ray' gives each worker a device of its own: {settings.device!r} is not for it to choose.\n"
            "Leave the device out, or say 'cpu' or 'cuda'."
        )
    if settings.workers < 0:
        raise InputError(f"The number of workers is {settings.workers}; give 1 or more, or 0 for as many as fit.")
    return RayEngine(encoder.card.family, settings)


class RayEngine:
    """Works over a Ray cluster; see ``base.Engine``."""

    def __init__(self, family: str, settings: EngineSettings) -> None:
        """Prepare the engine; nothing is started yet.

        Args:
            family: the encoder's family: only some can use a GPU.
            settings: how the work is to be done.
        """
        self._family = family
        self._settings = settings

    def embed(self, work: Work) -> Generator[list[Result]]:
        """Yield one result a file, in order, in batches; see ``base.Engine``.

        Raises:
            EngineError: the cluster cannot be reached, or fails.
            ClipsearchError: what went wrong in a worker, such as WeightsNotFoundError.
        """
        if work.holder is not None:
            raise InputError(
                "The pictures lie inside a table, and the engine 'ray' reads files only.\n"
                "Leave the engine out: they are embedded on this machine."
            )
        from clipsearch.flows.engines.ray_cluster import connected
        from clipsearch.flows.engines.ray_rows import in_order

        with ExitStack() as stack, _translated():
            with work.timed("start"):
                stack.enter_context(connected(self._settings.address, self._own_cores()))
                blocks = iter(self._answers(work))
            stack.callback(_close, blocks)
            answers = timed_iteration(work.timed, "embed", blocks)
            yield from cut(_seen_by_all(in_order(answers, work.refs), work.refs), work.batch_size)

    def _own_cores(self) -> int:
        """Return the cores that a cluster of this machine alone shall have: enough for the workers asked for."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return max(cores, self._settings.workers * max(self._settings.jobs, 1))

    def _answers(self, work: Work) -> Any:  # Any: Ray Data's iterable of blocks
        """Describe the work to Ray Data; returns the answers, which are worked out as they are asked for."""
        import ray.data  # pyright: ignore[reportMissingImports]

        from clipsearch.flows.engines.ray_cluster import machines
        from clipsearch.flows.engines.ray_share import share
        from clipsearch.flows.engines.ray_worker import Embedder, WorkerSetup

        nodes = machines()
        part = share(nodes, self._settings.workers, self._settings.jobs, self._wants_gpu(nodes))
        settings = replace(self._settings, device="auto" if part.gpus else "cpu", address=None)
        setup = WorkerSetup(settings, work.batch_size, part.jobs, None if part.gpus else part.cpus, work.looks)
        rows = _block_rows(len(work.refs), work.batch_size, part.workers)
        dataset = ray.data.from_arrow(_tables(work.refs, rows))
        dataset.context.enable_progress_bars = False
        dataset.context.execution_options.preserve_order = True  # so that nothing piles up; ordinals are what counts
        resources = {"num_gpus": part.gpus} if part.gpus else {"num_cpus": part.cpus}
        answers = dataset.map_batches(
            Embedder,
            fn_constructor_args=(setup,),
            batch_size=rows,  # one block at a time
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=part.workers),  # restarted, and their blocks retried, without end
            **resources,
        )
        return answers.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0)

    def _wants_gpu(self, nodes: Sequence[tuple[int, int]]) -> bool:
        there = any(gpus for _, gpus in nodes)
        if self._settings.device == "cuda" and not there:
            raise InputError("No machine of the Ray cluster has a GPU. Leave the device out, or say 'cpu'.")
        return there and self._settings.device != "cpu" and self._family == "open_clip"


def _block_rows(files: int, batch_size: int, workers: int) -> int:
    """Return the rows of a block: some batches, but fewer where each worker would get less than four blocks."""
    return max(1, min(_BLOCK * batch_size, -(-files // (4 * workers))))


def _tables(refs: Sequence[ImageRef], rows: int) -> list[Any]:  # Any: pyarrow's tables
    """Return the files as Arrow tables of so many rows."""
    import pyarrow

    from clipsearch.flows.engines.ray_rows import BYTES_FIELDS, columns_of

    def table(first: int) -> Any:
        columns = columns_of(refs[first : first + rows], first)
        kinds = {name: pyarrow.binary() if name in BYTES_FIELDS else pyarrow.int64() for name in columns}
        return pyarrow.table({name: pyarrow.array(values, kinds[name]) for name, values in columns.items()})

    return [table(first) for first in range(0, len(refs), rows)]


def _seen_by_all(results: Iterator[Result], refs: Sequence[ImageRef]) -> Iterator[Result]:
    """Refuse a cluster whose workers do not see the pictures."""
    for ref, result in zip(refs, results, strict=True):
        if isinstance(result, Skip) and result.reason == SkipReason.VANISHED:
            path = os.path.join(ref.root, ref.path)
            if os.path.lexists(path):
                raise InputError(
                    f"A worker of the Ray cluster does not see {os.fsdecode(path)}, which is there for this machine.\n"
                    "Every machine must see the pictures under the same path, as on a shared drive."
                )
        yield result


def _close(blocks: Iterator[Mapping[str, Any]]) -> None:
    close = getattr(blocks, "close", None)
    if close is not None:
        close()


@contextmanager
def _translated() -> Iterator[None]:
    """Turn Ray's errors into one that says what to do; those that clipsearch raises in a worker come as answers."""
    from ray.exceptions import RayError  # pyright: ignore[reportMissingImports]

    try:
        yield
    except RayError as error:
        raise EngineError(
            f"Ray gave up: {gist(str(error)) or type(error).__name__}\n"
            "What was committed is kept; the same command goes on from there. Ray's logs are in /tmp/ray."
        ) from error
