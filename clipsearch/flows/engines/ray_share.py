"""How a cluster is divided among workers."""

from collections.abc import Sequence
from dataclasses import dataclass

from clipsearch.errors import InputError

_MOST_CPUS = 4  # of one worker without a GPU; more workers gain more than wider ones
_MOST_JOBS = 8  # decode processes beside a GPU


@dataclass(frozen=True, slots=True)
class Share:
    """How a cluster is divided: workers, and what each of them gets."""

    workers: int
    cpus: int
    gpus: int
    jobs: int


def share(nodes: Sequence[tuple[int, int]], workers: int, jobs: int, wants_gpu: bool) -> Share:
    """Divide a cluster.

    Args:
        nodes: (cores, GPUs) of each machine.
        workers: workers wanted; 0 means as many as fit.
        jobs: decode processes of each worker; 0 means as many as fit.
        wants_gpu: whether each worker gets a GPU.

    Raises:
        InputError: so many workers do not fit.
    """
    if wants_gpu:
        most = sum(gpus for _, gpus in nodes)
        beside = min((cpus // gpus for cpus, gpus in nodes if gpus), default=1)
        found = Share(workers or most, 0, 1, jobs or min(max(beside, 1), _MOST_JOBS))
    else:
        sizes = [jobs] if jobs else list(range(_MOST_CPUS, 0, -1))
        room = {size: sum(cpus // size for cpus, _ in nodes) for size in sizes}
        size = next((size for size in sizes if room[size] >= max(workers, 1)), sizes[-1])
        most = room[size]
        found = Share(workers or most, size, 0, size)
    if not 0 < found.workers <= most:
        raise InputError(
            f"The Ray cluster has room for {most} workers of {found.jobs} decode processes, not for {workers or 1}.\n"
            "Ask for fewer with --workers or --jobs, or add machines."
        )
    return found
