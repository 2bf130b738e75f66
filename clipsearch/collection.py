"""The facade: one object for one collection; wiring only.

    photos = clipsearch.open("indexes/photos")
    photos.search("a dog in the snow", k=5)

A ``Collection`` is made to be kept: the encoder is loaded once, at the first query or index run, and the rows stay
warm. One object serves many threads. What a search reads is one immutable ``View`` (a version of the collection and
its indexes), fetched once at its start; ``refresh`` puts a newer view in its place, and searches under way finish on
the one they began with. Nothing is ever closed under them: memory maps go when the last search lets go of them.

After ``os.fork`` a child may go on searching with the object it inherited: what is stored is read-only, the encoder
renews its own sessions, and the locks are made anew, since a thread that held one is not in the child.
"""

import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO, TypedDict, Unpack, overload

from clipsearch.embed import choose_model, load_encoder
from clipsearch.embed.base import Encoder
from clipsearch.errors import InputError, StorageError
from clipsearch.flows.identity import check_encoder, encoder_record
from clipsearch.flows.query import KINDS, answer, build_queries
from clipsearch.flows.status import CollectionStatus, read_status
from clipsearch.flows.view import View, read_index_pointer
from clipsearch.registry import suggest
from clipsearch.store import Store
from clipsearch.types import SearchResult

if TYPE_CHECKING:
    from clipsearch.flows.build import BuildReport
    from clipsearch.flows.evaluate import EvaluationReport
    from clipsearch.flows.evaluate_match import MatchReport
    from clipsearch.flows.ingest import IndexReport
    from clipsearch.flows.progress import Progress
    from clipsearch.flows.tables import ColumnInfo, SqlResult

PathLike = str | os.PathLike[str]
OneImage = PathLike | bytes | BinaryIO


class _How(TypedDict):
    """How the encoder is run."""

    runtime: str
    device: str
    precision: str


class _Options(TypedDict, total=False):
    """The options of ``Collection.search``, for its overloads."""

    add: Any  # Any: a part or a list of parts: text, path, array, Weighted
    subtract: Any
    weights: Sequence[float] | None
    k: int
    target: str
    leave_out_self: bool
    where: str | None
    recall: float | None


def create(
    path: PathLike,
    model: str | None = None,
    *,
    runtime: str = "auto",
    device: str = "auto",
    precision: str = "auto",
) -> "Collection":
    """Make an empty collection and open it.

    Args:
        path: folder to make; its parents are made too.
        model: name of the encoder; None takes the best one on this machine, and ``Collection.note`` says how to get
            a better one.
        runtime: how the encoder is run.
        device: where the encoder is run.
        precision: numbers it computes in: "auto", "fp32", "bf16" or "fp16".

    Raises:
        InputError: there is a collection already, or no such model.
        WeightsNotFoundError: the model's weights are not on this machine.
    """
    place = os.path.abspath(path)
    if os.path.exists(os.path.join(place, "CURRENT")):  # asked before the encoder is loaded, which may take a while
        raise InputError(f"There is a collection in {place} already. Open it, or choose another name.")
    name, note = choose_model(model)
    encoder = load_encoder(name, runtime=runtime, device=device, precision=precision)
    store = Store.create(place, encoder_record(encoder), encoder.dim)
    collection = Collection(store, runtime=runtime, device=device, precision=precision, note=note)
    collection._encoder = encoder
    return collection


def open(path: PathLike, *, runtime: str = "auto", device: str = "auto", precision: str = "auto") -> "Collection":
    """Open a collection. Its encoder is loaded at the first query or index run.

    Raises:
        CollectionNotFoundError: there is no collection at ``path``.
        CorruptShardError: the collection is damaged.
    """
    return Collection(Store.open(os.path.abspath(path)), runtime=runtime, device=device, precision=precision)


class Collection:
    """Pictures, their captions and their embeddings in one folder; see the module's docstring.

    Attributes:
        path: absolute path of the collection's folder.
        name: the folder's name.
        model: name of the encoder.
        note: one line on how to get a better model, where ``create`` chose one; else None.
    """

    def __init__(
        self,
        store: Store,
        *,
        runtime: str = "auto",
        device: str = "auto",
        precision: str = "auto",
        note: str | None = None,
    ) -> None:
        self.path = os.path.abspath(store.path)
        self.name = os.path.basename(self.path)
        self.note = note
        self._store = store
        self._how = _How(runtime=runtime, device=device, precision=precision)
        self._encoder: Encoder | None = None
        self._lock = threading.RLock()  # held while something is loaded, never while something is searched
        self._view: View | None = View(store.snapshot())
        self.model = str(self._view.snapshot.manifest.encoder["name"])
        _ALIVE.add(self)

    @property
    def encoder(self) -> Encoder:
        """The encoder, loaded on first use and checked against the manifest.

        Raises:
            ManifestMismatchError: the encoder on this machine is not the one that the collection was made with.
            WeightsNotFoundError: its weights are not on this machine.
        """
        record = self._current().snapshot.manifest.encoder
        encoder = self._encoder
        if encoder is None:
            with self._lock:
                encoder = self._encoder or load_encoder(self.model, **self._how)
                self._encoder = encoder
        check_encoder(encoder, record, self.path)
        return encoder

    def index(
        self,
        source: PathLike,
        *,
        captions: PathLike | None = None,
        column: str | None = None,
        excludes: Sequence[str] = (),
        batch_size: int = 32,
        workers: int = 0,
        commit_rows: int = 1000,
        commit_seconds: float = 30.0,
        wait: bool = False,
        stdin: BinaryIO | None = None,
        progress: "Callable[[Progress], None] | None" = None,
    ) -> "IndexReport":
        """Bring the collection up to date with a source; only what is new or changed is embedded.

        Args:
            source: folder, image, tar, CSV or Parquet file, or "-" for paths on ``stdin``.
            captions: CSV with the columns image and caption.
            column: the column of paths, where the source is a table.
            excludes: glob patterns of names to leave out.
            batch_size: images per forward pass.
            workers: decode processes; 0 means one a core.
            commit_rows: rows after which work is committed.
            commit_seconds: seconds after which work is committed.
            wait: wait for another writer instead of raising LockedError.
            stdin: byte stream of paths for the source "-".
            progress: called now and then with how far the run is.

        Raises:
            SourceNotFoundError: there is nothing of that name.
            LockedError: another process is writing to the collection.
            ManifestMismatchError: the encoder is not the one that the collection was made with.
        """
        encoder = self.encoder  # first of all: a mismatch must stop the run
        from clipsearch.flows.ingest import ingest

        report = ingest(
            self._store,
            encoder,
            source,
            captions=captions,
            column=column,
            excludes=excludes,
            batch_size=batch_size,
            workers=workers,
            commit_rows=commit_rows,
            commit_seconds=commit_seconds,
            wait=wait,
            stdin=stdin,
            progress=progress,
        )
        report = _calibrated(self._store, encoder, report, progress)
        self.refresh()
        return report

    def build_index(
        self,
        index_type: str = "auto",
        *,
        recipe: str | None = None,
        memory_bytes: int | None = None,
        retrain: bool = False,
        progress: "Callable[[Progress], None] | None" = None,
        say: Callable[[str], None] | None = None,
    ) -> "BuildReport":
        """Build, extend or remove the approximate index of the pictures; does as little as it can.

        Up to 200,000 pictures there is none: comparing them all costs less than encoding the query. Without calling
        this, searches find everything too, only slower: pictures that the index does not cover are compared one by
        one.

        Args:
            index_type: "auto", "flat" (none), "ivfflat" or "ivfpq".
            recipe: name of a recipe, or a TOML file, in place of a choice.
            memory_bytes: what building may take; None takes 70 % of what is free.
            retrain: build anew even where there is an index.
            progress: called now and then with how far it is.
            say: called with the choice, in one line, before the work begins.

        Raises:
            InputError: too few pictures or too little memory, with figures; a wrong recipe.
            MissingExtraError: faiss is not installed.
            LockedError: another process is building.
        """
        from clipsearch.flows.build import update_index

        report = update_index(
            self._store,
            lambda: self.encoder,
            index_type=index_type,
            recipe=recipe,
            memory_bytes=memory_bytes,
            retrain=retrain,
            progress=progress,
            say=say,
        )
        self.refresh()
        return report

    @overload
    def search(
        self, text: str | None = None, *, image: OneImage | None = None, **options: Unpack[_Options]
    ) -> SearchResult: ...
    @overload
    def search(
        self, text: list[str], *, image: Any = None, vector: Any = None, **options: Unpack[_Options]
    ) -> list[SearchResult]: ...
    @overload
    def search(
        self, text: Any = None, *, image: Any = None, vector: Any = None, **options: Unpack[_Options]
    ) -> SearchResult | list[SearchResult]: ...
    def search(
        self,
        text: str | Sequence[str] | None = None,
        *,
        image: Any = None,  # Any: path, bytes, binary file or PIL image, or a list of them
        vector: Any = None,  # Any: whatever numpy takes for an array (D,) or (Q, D)
        add: Any = (),
        subtract: Any = (),
        weights: Sequence[float] | None = None,
        k: int = 10,
        target: str = "image",
        leave_out_self: bool = False,
        where: str | None = None,
        recall: float | None = None,
    ) -> SearchResult | list[SearchResult]:
        """Find the ``k`` best rows for a text, an image, a vector, or a sum of them.

        Parts given together are added. A list of texts, a list of images or an array (Q, D) asks Q queries at once,
        and a list of results comes back, in the same order; a single part beside a list belongs to each query.

        Args:
            text: what the picture shows.
            image: picture to find similar ones to: path, bytes, binary file or PIL image.
            vector: embedding (D,) of the collection's model; need not be of unit norm.
            add: more parts: str is a text, os.PathLike a picture; ``Weighted("sunset", 0.5)`` has a weight.
            subtract: parts to take away, likewise.
            weights: a weight for each of text, image, vector as far as given, then each of ``add`` and ``subtract``.
            k: answers wanted.
            target: "image" for pictures, "text" for captions.
            leave_out_self: leave out pictures whose file has the very bytes of a query picture.
            where: look only among pictures for which this is true, such as
                ``"taken >= '2024-01-01' AND camera LIKE 'Canon%'"``; among their captions for the target "text".
                SQL over the columns that ``columns`` lists.
            recall: share of the true best pictures wanted, above 0 and at most 1, where an approximate index was built
                (``build_index``): the quickest settings that reach it on queries of this kind; 1 compares every
                picture. None takes 0.97.

        Returns:
            A ``SearchResult``, or a list of them where a list was asked.

        Raises:
            InputError: the request is wrong; QueryImageError: a query picture cannot be read.
            FilterSyntaxError: ``where`` is not one boolean expression over the columns.
            ManifestMismatchError: the encoder is not the one that the collection was made with.
        """
        if target not in KINDS:
            raise InputError(suggest("search target", target, KINDS))
        queries, many = build_queries(text, image, vector, add, subtract, weights)
        view = self._current()
        allowed = None if where is None else view.allowed(where, KINDS[target], self._lock)
        index = view.index(KINDS[target], self._lock)
        results = answer(
            view.snapshot,
            index,
            queries,
            lambda: self.encoder,
            k=k,
            target=target,
            leave_out_self=leave_out_self,
            allowed=allowed,
            recall=recall,
            notes=view.notes if target == "image" else (),
            judge=view.judge(KINDS[target], where, self._lock),
        )
        return results if many else results[0]

    def columns(self) -> "list[ColumnInfo]":
        """Return the columns that ``where`` may name: type, rows that have a value, an example."""
        from clipsearch.flows.tables import columns

        return columns(self._current().snapshot)

    def sql(self, statement: str, *, seconds: float = 60.0) -> "SqlResult":
        """Run one SELECT over the tables ``images`` and ``captions``; nothing is ever changed.

        ``search('words', k)`` stands as a table with the columns id, rank and score. The column ``embedding`` is
        there where the statement names it.

        Args:
            statement: such as ``"SELECT path, score FROM search('a dog', 20) JOIN images USING (id)"``.
            seconds: time that it may take.

        Raises:
            FilterSyntaxError: it is not one SELECT over those tables.
            InputError: it took too long, needs too much memory, or answers too much.
        """
        from clipsearch.flows.tables import sql

        view = self._current()

        def ask(words: str, k: int) -> SearchResult:
            index = view.index("images", self._lock)
            return answer(view.snapshot, index, build_queries(words)[0], lambda: self.encoder, k=k)[0]

        return sql(view.snapshot, statement, ask, seconds=seconds)

    @property
    def version(self) -> int:
        """Version of the collection that searches use."""
        return self._current().snapshot.version

    def status(self) -> CollectionStatus:
        """Return what the collection holds, in the version that searches use."""
        return read_status(self._current().snapshot)

    def evaluate(
        self, pairs: "Sequence[tuple[str, str]] | PathLike", ks: Sequence[int] = (1, 5, 10)
    ) -> "EvaluationReport":
        """Measure retrieval on pairs of an image and a caption; see ``clipsearch.flows.evaluate``.

        Args:
            pairs: (image, caption) pairs, or the path of a CSV with the columns image and caption.
            ks: the ranks to give recall at.

        Raises:
            InputError: no pair can be used.
        """
        from clipsearch.flows.evaluate import evaluate

        return evaluate(self._current().snapshot, self.encoder, pairs, ks=ks)

    def evaluate_match(
        self,
        *,
        target: str = "image",
        repetitions: int = 8,
        seed: int = 0,
        progress: "Callable[[Progress], None] | None" = None,
    ) -> "MatchReport":
        """Measure how often verdicts are wrong on this collection; see ``clipsearch.flows.evaluate_match``.

        Args:
            target: "image" for searches for pictures, "text" for captions.
            repetitions: how often whole concepts are taken out, other ones each time.
            seed: decides which.
            progress: called after each repetition.

        Raises:
            InputError: the collection is too small.
        """
        if target not in KINDS:
            raise InputError(suggest("search target", target, KINDS))
        from clipsearch.flows.evaluate_match import evaluate_match

        return evaluate_match(
            self._current().snapshot, self.encoder, target=target, repetitions=repetitions, seed=seed, tell=progress
        )

    def refresh(self) -> bool:
        """Take up the newest version; True where there was a newer one. Searches under way finish on the old one."""
        with self._lock:
            view = self._current()
            snapshot = self._store.snapshot()
            if snapshot.version == view.snapshot.version and read_index_pointer(self.path) == view.built:
                return False
            self._view = View(snapshot)
            return True

    def close(self) -> None:
        """Let go of everything. Searches under way finish; later calls raise InputError. May be called twice."""
        self._view = None
        self._encoder = None

    def __enter__(self) -> "Collection":
        self._current()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Collection {self.name!r} at {self.path!r}{'' if self._view else ', closed'}>"

    def _current(self) -> "View":
        view = self._view
        if view is None:
            raise InputError(f"The collection {self.name!r} was closed. Open it again.")
        return view


def _calibrated(
    store: Store, encoder: Encoder, report: "IndexReport", progress: "Callable[[Progress], None] | None"
) -> "IndexReport":
    """Renew the calibration after a run, and add its time to the report; the rows are safe whatever happens here."""
    from clipsearch.flows.calibrate import renew

    start, notes = time.monotonic(), report.notes
    try:
        done = renew(store, encoder, progress)
    except StorageError as problem:
        done, notes = True, (*notes, f"The calibration was not renewed, so searches have no verdict: {problem}")
    if not done:
        return report
    seconds = time.monotonic() - start
    stages = {**report.stages, "calibrate": seconds}
    return replace(report, stages=stages, seconds=report.seconds + seconds, notes=notes)


# Collections of this process, so that a forked child can renew their locks; weak, so that it keeps none alive.
_ALIVE: "weakref.WeakSet[Collection]" = weakref.WeakSet()


def _renew_locks() -> None:
    for collection in list(_ALIVE):
        collection._lock = threading.RLock()
        collection._store = Store(collection.path)  # it has a lock of its own


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
