"""Remember the files that could not be decoded, so that an unchanged one is not decoded again; and generated pictures.

A file is known by its place, its size and its times, and by the decoder that failed; the next run counts it as skipped
with the reason found before. Only reasons that lie in the bytes are remembered. What could not be *read* is tried again
every time, and so is what took too long, too much memory or a worker's life: that may have been the machine's doing.

A generated picture that is kept out (``shield.py``) is remembered in the same way, with the way in which it was
recognised, but is *ignored*, not skipped: nothing is wrong with it.
"""

import os
from collections.abc import Iterable, Mapping

from clipsearch.decode.identity import decoder_name
from clipsearch.flows.places import place_of
from clipsearch.scan import Source
from clipsearch.store import KnownSkip, Snapshot
from clipsearch.types import ImageRef, Skip, SkipReason

LASTING = {
    SkipReason.EMPTY,
    SkipReason.UNIDENTIFIED,
    SkipReason.UNSUPPORTED_FORMAT,
    SkipReason.TRUNCATED,
    SkipReason.CORRUPT,
    SkipReason.TOO_MANY_PIXELS,
    SkipReason.TOO_LARGE_FILE,
    SkipReason.GENERATED,
}

Remembered = Mapping[bytes, KnownSkip]  # by place, see ``place_of``


def remembered(snapshot: Snapshot) -> dict[bytes, KnownSkip]:
    """Return the files that are known to be broken or generated, by their place on this machine."""
    places = {root.id: snapshot.root_path(root.id) for root in snapshot.manifest.roots}
    return {
        place_of(places[skip.root], skip.path, skip.member): skip
        for skip in snapshot.skipped()
        if isinstance(skip, KnownSkip) and skip.root in places
    }


def still_broken(known: KnownSkip | None, ref: ImageRef) -> bool:
    """Tell whether a file is the very one that was left out before, by this very decoder."""
    return known is not None and known.stamp == (ref.size, ref.mtime_ns, ref.ctime_ns) and known.by == decoder_name()


def known_skip(skip: Skip, root: int, prefix: bytes, ref: ImageRef | None) -> KnownSkip:
    """Return what is to be remembered of a file left out.

    Args:
        skip: with its path relative to the source.
        root: the collection's root that holds the source.
        prefix: path from that root to the source.
        ref: the file as the scan met it; None where the scan itself left it out.
    """
    path = os.path.join(prefix, skip.path)
    if ref is None or skip.reason not in LASTING:
        return KnownSkip(path, skip.reason, skip.detail, skip.member, root)
    stamp = (ref.size, ref.mtime_ns, ref.ctime_ns)
    return KnownSkip(path, skip.reason, skip.detail, skip.member, root, stamp, decoder_name())


def elsewhere(before: Remembered, source: Source, seen: set[bytes]) -> list[KnownSkip]:
    """Return what is remembered of places that a scan, which met ``seen``, says nothing about."""
    below = source.root.rstrip(b"/") + b"/"

    def is_covered(path: bytes, skip: KnownSkip) -> bool:
        return path.startswith(below) and source.covers(path[len(below) :], skip.member)

    return [
        skip
        for place, skip in before.items()
        if skip.stamp is not None and place not in seen and not is_covered(place.split(b"\0", 1)[0], skip)
    ]


def in_order(skips: Iterable[KnownSkip]) -> list[KnownSkip]:
    """Return a list to store, the same for the same files whatever the order they were met in."""
    return sorted(skips, key=lambda skip: (skip.root, skip.path, skip.member or b"", skip.reason))
