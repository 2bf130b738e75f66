"""Search your pictures with words and with pictures.

    import clipsearch

    with clipsearch.create("indexes/photos") as photos:  # later: clipsearch.open("indexes/photos")
        photos.index("Pictures")
        for hit in photos.search("a dog in the snow"):
            print(hit.rank, hit.score, hit.path)

Importing this package loads nothing heavy: a public name is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from clipsearch.collection import Collection, CollectionStatus, create, open
    from clipsearch.errors import (
        ClipsearchError,
        CollectionNotFoundError,
        CorruptShardError,
        DataError,
        FilterSyntaxError,
        FormatVersionError,
        GenerationError,
        InputError,
        LockedError,
        ManifestMismatchError,
        MissingExtraError,
        QueryImageError,
        RejectedError,
        SourceNotFoundError,
        StorageError,
        UnknownNameError,
        WeightsNotFoundError,
    )
    from clipsearch.flows.ask import Answer, Choice, ColumnReport
    from clipsearch.flows.augment_files import AugmentEvidence
    from clipsearch.flows.describe import Description, Descriptions
    from clipsearch.flows.evaluate import DirectionReport, EvaluationReport
    from clipsearch.flows.evaluate_match import MatchReport, MatchRow
    from clipsearch.flows.export import ExportReport
    from clipsearch.flows.import_embeddings import ImportReport
    from clipsearch.flows.ingest import IndexReport
    from clipsearch.flows.outcome import BuildReport
    from clipsearch.flows.progress import Progress
    from clipsearch.flows.query_terms import Weighted
    from clipsearch.flows.tag import TagReport
    from clipsearch.types import GeneratedImage, Hit, Reordering, SearchResult, Skip, SkipReason, Verdict

_HOMES = {
    "clipsearch.collection": ("Collection", "CollectionStatus", "create", "open"),
    "clipsearch.errors": (
        "ClipsearchError",
        "CollectionNotFoundError",
        "CorruptShardError",
        "DataError",
        "FilterSyntaxError",
        "FormatVersionError",
        "GenerationError",
        "InputError",
        "LockedError",
        "ManifestMismatchError",
        "MissingExtraError",
        "QueryImageError",
        "RejectedError",
        "SourceNotFoundError",
        "StorageError",
        "UnknownNameError",
        "WeightsNotFoundError",
    ),
    "clipsearch.flows.ask": ("Answer", "Choice", "ColumnReport"),
    "clipsearch.flows.augment_files": ("AugmentEvidence",),
    "clipsearch.flows.describe": ("Description", "Descriptions"),
    "clipsearch.flows.outcome": ("BuildReport",),
    "clipsearch.flows.evaluate": ("DirectionReport", "EvaluationReport"),
    "clipsearch.flows.evaluate_match": ("MatchReport", "MatchRow"),
    "clipsearch.flows.export": ("ExportReport",),
    "clipsearch.flows.import_embeddings": ("ImportReport",),
    "clipsearch.flows.ingest": ("IndexReport",),
    "clipsearch.flows.progress": ("Progress",),
    "clipsearch.flows.query_terms": ("Weighted",),
    "clipsearch.flows.tag": ("TagReport",),
    "clipsearch.types": ("GeneratedImage", "Hit", "Reordering", "SearchResult", "Skip", "SkipReason", "Verdict"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Answer",
    "AugmentEvidence",
    "BuildReport",
    "Choice",
    "ClipsearchError",
    "Collection",
    "CollectionNotFoundError",
    "CollectionStatus",
    "ColumnReport",
    "CorruptShardError",
    "DataError",
    "Description",
    "Descriptions",
    "DirectionReport",
    "EvaluationReport",
    "ExportReport",
    "FilterSyntaxError",
    "FormatVersionError",
    "GeneratedImage",
    "GenerationError",
    "Hit",
    "ImportReport",
    "IndexReport",
    "InputError",
    "LockedError",
    "ManifestMismatchError",
    "MatchReport",
    "MatchRow",
    "MissingExtraError",
    "Progress",
    "QueryImageError",
    "RejectedError",
    "Reordering",
    "SearchResult",
    "Skip",
    "SkipReason",
    "SourceNotFoundError",
    "StorageError",
    "TagReport",
    "UnknownNameError",
    "Verdict",
    "Weighted",
    "WeightsNotFoundError",
    "__version__",
    "create",
    "open",
]


def __getattr__(name: str) -> Any:  # Any: a public name is a class or a function
    if name not in _HOME_OF:
        raise AttributeError(f"module 'clipsearch' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
