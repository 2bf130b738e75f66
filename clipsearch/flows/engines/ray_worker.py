"""What runs in each worker of the cluster: one copy of the encoder, and decode processes of its own.

A worker is handed a block of files and gives back a block of answers; it keeps nothing between blocks that matters, so
a block that it had in hand when it died is done again by another. Inside, it is the local engine: a picture that kills
its decoder is a skip here too, and never an end of the worker.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from clipsearch.decode import DecodePool
from clipsearch.embed import load_encoder
from clipsearch.embed.base import Encoder
from clipsearch.errors import ClipsearchError
from clipsearch.flows.engines.base import EngineSettings, Work
from clipsearch.flows.engines.local import LocalEngine
from clipsearch.flows.engines.ray_rows import ORDINAL, Columns, answers_of, failure_of, refs_of
from clipsearch.flows.identity import check_encoder


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """What a worker is told once.

    Attributes:
        settings: how to load the encoder, and what it must be.
        batch_size: pictures a forward pass.
        jobs: decode processes.
        threads: CPU threads of the encoder; None leaves its own choice.
        looks: whether results shall have a thumbnail.
    """

    settings: EngineSettings
    batch_size: int
    jobs: int
    threads: int | None
    looks: bool = False


class Embedder:
    """Decodes and embeds blocks of files; Ray Data makes one in each worker."""

    def __init__(self, setup: WorkerSetup) -> None:
        """Prepare the worker; the encoder is loaded for the first block."""
        self._setup = setup
        self._loaded: tuple[Encoder, DecodePool] | None = None

    def __call__(self, block: Mapping[str, Any]) -> Columns:
        """Return the answers to a block, one for each of its files.

        An error of ours, such as weights that are not on this machine, is an answer too: of what is raised here, Ray
        hands on no more than a text.
        """
        try:
            if self._loaded is None:
                encoder = _load(self._setup)
                self._loaded = encoder, DecodePool(encoder.preprocess, workers=self._setup.jobs)
            encoder, pool = self._loaded
            how = self._setup
            work = Work(refs_of(block), pool, how.batch_size, lambda _: False, _untimed, how.looks)
            results = [result for batch in LocalEngine(encoder).embed(work) for result in batch]
        except ClipsearchError as problem:
            return failure_of(block[ORDINAL], problem, int(self._setup.settings.record["dim"]))
        return answers_of(block[ORDINAL], results, encoder.dim)


def _load(setup: WorkerSetup) -> Encoder:
    how = setup.settings
    encoder = load_encoder(
        str(how.record["name"]),
        runtime=how.runtime,
        device=how.device,
        precision=how.precision,
        threads=setup.threads,
    )
    check_encoder(encoder, how.record, how.collection)
    return encoder


def _untimed(_: str) -> nullcontext[None]:
    return nullcontext()
