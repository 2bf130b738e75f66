"""Add texts to a collection without a look at any picture: a caption bank, or captions that came later."""

import os
from collections.abc import Callable
from dataclasses import replace

from clipsearch.embed.base import Encoder
from clipsearch.errors import InputError
from clipsearch.flows.captions import CaptionCounts, Sources, check_captions, ingest_captions
from clipsearch.flows.progress import Progress
from clipsearch.store import Store, update_packs


def ingest_texts(
    store: Store, encoder: Encoder, captions: Sources, *, wait: bool, tell: Callable[[Progress], None]
) -> CaptionCounts:
    """Add the texts of files, or of the pictures that the collection holds, where it does not hold them yet.

    Raises:
        SourceNotFoundError: there is no such file.
        InputError: it cannot be read, or there is no text in any, nor was there one before.
    """
    check_captions(captions)
    roots = [root for root in store.snapshot().manifest.roots if not root.is_given]
    places = [store.snapshot().root_path(root.id) for root in roots] or [os.fsencode(os.getcwd())]
    counts = CaptionCounts()
    had = store.snapshot().count("texts")
    with store.writer(wait=wait) as writer:
        for place in places:
            found = ingest_captions(store, writer, encoder, captions, place, tell)
            notes = (*counts.notes, *(note for note in found.notes if note not in counts.notes))
            counts = replace(
                found, rows=counts.rows + found.rows, embedded=counts.embedded + found.embedded, notes=notes
            )
        has = store.snapshot().count("texts")
    if not had and not has:  # a bank that was emptied is brought up to date as any other
        raise InputError(
            "There is no text in any of these files. Give one a line, or an image and a caption in each row."
        )
    update_packs(store.snapshot())
    return counts
