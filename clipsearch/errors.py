"""The error tree: everything clipsearch raises on purpose.

    ClipsearchError
    ├── InputError                  the request is wrong
    │   ├── UnknownNameError        no encoder, runtime, index type ... of that name; lists near names
    │   ├── FilterSyntaxError       a --where expression or an SQL statement that is not allowed; names the place
    │   ├── SourceNotFoundError     nothing to index there
    │   ├── QueryImageError         the query image cannot be read
    │   └── WeightsNotFoundError    a model's weights are not on this machine
    ├── DataError                   what is on disk does not fit
    │   ├── CollectionNotFoundError no collection there
    │   ├── LockedError             another writer is at work
    │   ├── ManifestMismatchError   made with another encoder, weights or dim
    │   ├── CorruptShardError       a file of the collection is damaged
    │   ├── FormatVersionError      a newer clipsearch wrote it
    │   └── StorageError            the collection cannot be written: disk full, read-only
    ├── GenerationError             a generator failed; search goes on without it
    │   └── RejectedError           what was drawn does not show what was asked
    └── MissingExtraError           an optional package is not installed

Every message says what happened, why, and what to do next, in at most three lines. The front door prints it
and exits with ``exit_code``; it never shows a traceback for one of these.
"""


class ClipsearchError(Exception):
    """Base of all errors that clipsearch raises on purpose."""

    exit_code = 2


class InputError(ClipsearchError):
    """The request is wrong: an argument, an option, a file that the user named."""


class UnknownNameError(InputError):
    """A name that no registry, card table or column list holds."""


class FilterSyntaxError(InputError):
    """A filter is not one boolean expression over known columns, or an SQL statement not one SELECT."""


class SourceNotFoundError(InputError):
    """The folder, file or table to index does not exist or holds nothing that can be scanned."""


class QueryImageError(InputError):
    """The query image cannot be read."""


class WeightsNotFoundError(InputError):
    """The weights of a model are not on this machine, and nothing is downloaded unasked."""


class DataError(ClipsearchError):
    """What lies on disk does not fit the request."""

    exit_code = 4


class CollectionNotFoundError(DataError):
    """There is no collection at that place."""

    exit_code = 10


class LockedError(DataError):
    """Another process is writing to the collection."""

    exit_code = 11


class ManifestMismatchError(DataError):
    """The collection was made with another encoder, other weights or another dimension."""

    exit_code = 12


class CorruptShardError(DataError):
    """A file of the collection is damaged: its size or digest is not what the manifest says."""


class FormatVersionError(DataError):
    """A newer clipsearch wrote the collection; this one does not know the format."""

    exit_code = 2


class StorageError(DataError):
    """The collection cannot be written: the disk is full, read-only or broken. What was committed is kept."""

    exit_code = 1


class GenerationError(ClipsearchError):
    """A picture could not be made. Searching never raises it: an answer does not depend on a generator."""

    exit_code = 1


class RejectedError(GenerationError):
    """What was drawn does not show what was asked, or the generator says itself that it cannot draw it."""


class MissingExtraError(ClipsearchError):
    """An optional package is not installed; the message says what to install."""
