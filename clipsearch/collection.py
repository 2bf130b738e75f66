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
from typing import TYPE_CHECKING, Any, BinaryIO, TypedDict, TypeVar, Unpack, overload

from clipsearch.embed import choose_model, devices_of, load_encoder
from clipsearch.embed.base import Encoder
from clipsearch.errors import InputError, StorageError
from clipsearch.flows.identity import check_encoder, check_known, encoder_record, record_for_embeddings
from clipsearch.flows.query import KINDS, answer, build_queries
from clipsearch.flows.status import CollectionStatus, read_status
from clipsearch.flows.view import View, read_index_pointer
from clipsearch.registry import suggest
from clipsearch.store import Store
from clipsearch.types import GeneratedImage, SearchResult

if TYPE_CHECKING:
    from clipsearch.flows.augment_files import AugmentEvidence
    from clipsearch.flows.evaluate import EvaluationReport
    from clipsearch.flows.evaluate_match import MatchReport
    from clipsearch.flows.export import ExportReport
    from clipsearch.flows.generators import Chosen
    from clipsearch.flows.import_embeddings import ImportReport
    from clipsearch.flows.ingest import IndexReport
    from clipsearch.flows.outcome import BuildReport
    from clipsearch.flows.progress import Progress
    from clipsearch.flows.tables import ColumnInfo, SqlResult
    from clipsearch.generate.service import GeneratorService

PathLike = str | os.PathLike[str]
OneImage = PathLike | bytes | BinaryIO
R = TypeVar("R", "IndexReport", "ImportReport")


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
    augment: bool


def create(
    path: PathLike,
    model: str | None = None,
    *,
    runtime: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    dim: int | None = None,
) -> "Collection":
    """Make an empty collection and open it.

    Args:
        path: folder to make; its parents are made too.
        model: name of the encoder; None takes the best one on this machine, and ``Collection.note`` says how to get
            a better one.
        runtime: how the encoder is run.
        device: where the encoder is run: "auto", "cpu", "cuda", "cuda:1"; several, as in "cuda:0,cuda:1", or "all" for
            every CUDA device: ``index`` uses them all, anything else the first.
        precision: numbers it computes in: "auto", "fp32", "bf16" or "fp16".
        dim: numbers in an embedding, for a collection of ready ones (``index_embeddings``): ``model`` is the one that
            made them, None if nobody knows, and its weights need not be on this machine.

    Raises:
        InputError: there is a collection already, no such model, or one of another dimension.
        WeightsNotFoundError: the model's weights are not on this machine.
    """
    place = os.path.abspath(path)
    if os.path.exists(os.path.join(place, "CURRENT")):  # asked before the encoder is loaded, which may take a while
        raise InputError(f"There is a collection in {place} already. Open it, or choose another name.")
    if dim is not None:
        how = _How(runtime=runtime, device=device, precision=precision)
        record = record_for_embeddings(model, dim, lambda name: load_encoder(name, **how))
        return Collection(Store.create(place, record, dim), **how)
    name, note = choose_model(model)
    encoder = load_encoder(name, runtime=runtime, device=devices_of(device)[0], precision=precision)
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
        self._drawers: dict[Any, GeneratorService] = {}  # Any: Setup, of a room that a search does without
        self._lock = threading.RLock()  # held while something is loaded, never while something is searched
        self._view: View | None = View(store.snapshot())
        self.model = str(self._view.snapshot.manifest.encoder["name"])
        _ALIVE.add(self)

    @property
    def encoder(self) -> Encoder:
        """The encoder, loaded on first use and checked against the manifest.

        Raises:
            InputError: nobody said which encoder made the collection's embeddings.
            ManifestMismatchError: the encoder on this machine is not the one that the collection was made with.
            WeightsNotFoundError: its weights are not on this machine.
        """
        record = self._current().snapshot.manifest.encoder
        check_known(record, self.path)
        encoder = self._encoder
        if encoder is None:
            with self._lock:
                first = devices_of(self._how["device"])[0]
                encoder = self._encoder or load_encoder(self.model, **{**self._how, "device": first})
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
        engine: str = "local",
        ray_address: str | None = None,
        ray_workers: int = 0,
    ) -> "IndexReport":
        """Bring the collection up to date with a source; only what is new or changed is embedded.

        Args:
            source: folder, image, tar, CSV or Parquet file (of paths, or of the pictures' bytes), or "-" for paths
                on ``stdin``.
            captions: CSV with the columns image and caption.
            column: the column of paths or pictures, where the source is a table.
            excludes: glob patterns of names to leave out.
            batch_size: images per forward pass.
            workers: decode processes; 0 means one a core. Under the engine "ray": of each worker.
            commit_rows: rows after which work is committed.
            commit_seconds: seconds after which work is committed.
            wait: wait for another writer instead of raising LockedError.
            stdin: byte stream of paths for the source "-".
            progress: called now and then with how far the run is.
            engine: where pictures are decoded and embedded: "local", or "ray" for Ray Data over a cluster.
            ray_address: the cluster, such as "10.0.0.1:6379" or "auto"; None starts Ray on this machine, for this run.
            ray_workers: copies of the model; 0 means one a GPU, or one for every four cores where there is none.

        Raises:
            SourceNotFoundError: there is nothing of that name.
            LockedError: another process is writing to the collection.
            ManifestMismatchError: the encoder is not the one that the collection was made with.
            MissingExtraError: the engine needs a package that is not installed.
        """
        encoder = self.encoder  # first of all: a mismatch must stop the run
        from clipsearch.flows.engines import ENGINES
        from clipsearch.flows.engines.base import EngineSettings
        from clipsearch.flows.ingest import ingest

        settings = EngineSettings(
            encoder_record(encoder), self.path, **self._how, jobs=workers, address=ray_address, workers=ray_workers
        )
        report = ingest(
            self._store,
            encoder,
            source,
            engine=ENGINES.load(engine)(encoder, settings),
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

    def index_embeddings(
        self,
        source: PathLike,
        *,
        model: str | None = None,
        column: str | None = None,
        allow_gaps: bool = False,
        commit_rows: int | None = None,
        wait: bool = False,
        progress: "Callable[[Progress], None] | None" = None,
    ) -> "ImportReport":
        """Take over ready embeddings; no picture is opened. Only what is new or changed in the source is read.

        Args:
            source: ``.npy`` or Parquet file, a folder of them, or clip-retrieval's embeddings folder.
            model: the one that made them, which must be the collection's; None where nobody knows.
            column: the column of embeddings in Parquet; None takes "embedding".
            allow_gaps: take a clip-retrieval folder with partitions missing between others.
            commit_rows: rows after which work is committed; None takes 65,536.
            wait: wait for another writer instead of raising LockedError.
            progress: called now and then with how far the run is.

        Raises:
            SourceNotFoundError: there are no embeddings of that name.
            InputError: the source's files do not fit together.
            ManifestMismatchError: the embeddings are of another dimension or model than the collection's.
            LockedError: another process is writing to the collection.
        """
        from clipsearch.flows.import_embeddings import COMMIT_ROWS, import_embeddings
        from clipsearch.scan.embeddings import open_embeddings

        self._current()
        opened = open_embeddings(source, column=column, allow_gaps=allow_gaps)
        rows = COMMIT_ROWS if commit_rows is None else commit_rows
        report = import_embeddings(self._store, opened, model=model, commit_rows=rows, wait=wait, progress=progress)
        if self._store.snapshot().manifest.encoder.get("fingerprint") is not None:
            report = _calibrated(self._store, self.encoder, report, progress)
        self.refresh()
        return report

    def build_index(
        self,
        index_type: str = "auto",
        *,
        recipe: str | None = None,
        memory_bytes: int | None = None,
        jobs: int = 1,
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
            jobs: processes that put pictures into the index.
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
            jobs=jobs,
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
        augment: bool = True,
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
            augment: let the rungs that ``fit_augment`` switched on put the nearest pictures of a text into a new
                order; scores and verdict stay those of the text alone. Not with ``where`` and sums of parts.

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
            augmenter=view.augmenter() if augment else None,
        )
        return results if many else results[0]

    def generate(
        self,
        prompt: str,
        *,
        model: str | None = None,
        best_of: int | None = None,
        seed: int = 0,
        width: int | None = None,
        height: int | None = None,
        steps: int | None = None,
        guidance_scale: float | None = None,
        negative_prompt: str | None = None,
        like: OneImage | None = None,
        strength: float | None = None,
        sampler: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        with_prompt: bool = False,
        seconds: float = 300.0,
    ) -> GeneratedImage:
        """Draw a picture and keep it in the collection's folder ``generated/``; it never becomes a hit.

        What was drawn before with the same arguments, weights and libraries is not drawn again. The model runs in a
        process of its own, which stays for the next call until ``close``.

        Args:
            prompt: what to draw.
            model: name of a generator, or "local-dir:FOLDER"; None takes the best one on this machine.
            best_of: pictures drawn, of which the encoder keeps the best; None takes 4 on a GPU, 2 on a CPU.
            seed: of the first; the others have the next ones.
            width: pixels, a multiple of 8; None takes what the model draws best.
            height: likewise.
            steps: denoising steps; None leaves them to the model.
            guidance_scale: how strictly to follow the prompt; None leaves it to the model.
            negative_prompt: what not to draw.
            like: picture to start from.
            strength: how far to go from it, above 0 to 1.
            sampler: how "mini" fills in: "confidence" (None) or "random", which varies more and is less clean.
            device: "auto", "cpu", "cuda", "cuda:1".
            dtype: numbers to draw in: "auto", "fp32", "bf16" or "fp16".
            with_prompt: write the prompt itself into the file, not only its digest.
            seconds: time that it may take, loading included; then the process is killed.

        Raises:
            InputError: the arguments make no sense.
            WeightsNotFoundError: there is no generator of that name, or none at all, on this machine.
            GenerationError: nothing was drawn; RejectedError: what was drawn does not show the prompt.
        """
        from clipsearch.errors import WeightsNotFoundError
        from clipsearch.flows.fill import Wish, draw, read_source
        from clipsearch.flows.generators import choose_generator
        from clipsearch.generate.base import Options

        chosen = choose_generator(self.path, model, device, dtype)
        if chosen is None:
            raise WeightsNotFoundError(
                "No generator is on this machine, so nothing can be drawn.\n"
                "To see which there are and how to get one: clipsearch generate --list"
            )
        card = chosen.card
        options = Options(
            width=width or card.width,
            height=height or card.height,
            steps=card.steps if steps is None else steps,
            guidance_scale=card.guidance_scale if guidance_scale is None else guidance_scale,
            negative_prompt=negative_prompt,
            strength=strength,
            sampler=sampler,
        )
        source = None
        if like is not None:
            source, options = read_source(like, options)
        wish = Wish(prompt, best_of or chosen.tries, seed, options, source, with_prompt, seconds)
        return draw(self.path, self.encoder, chosen, self._drawer(chosen), wish)

    def _drawer(self, chosen: "Chosen") -> "GeneratorService":
        """Return what runs a generator; the same one as before, as long as it is the same generator."""
        from clipsearch.flows.fill import make_service

        self._current()
        with self._lock:
            if chosen.setup not in self._drawers:
                self._drawers[chosen.setup] = make_service(self.path, chosen)
            return self._drawers[chosen.setup]

    def fill(self, result: SearchResult, prompt: str, mode: str = "auto", **options: Any) -> SearchResult:
        """Return an answer with a generated picture in its field ``generated``, where ``mode`` and verdict ask for one.

        Never fails because of the generator: why there is no picture stands in ``notes``.

        Args:
            result: an answer of ``search``.
            prompt: what to draw.
            mode: "off", "offer" (which draws nothing), "auto": on the verdict ``none`` only, or "always".
            options: those of ``generate``.
        """
        from clipsearch.flows.fill import check_breaker, decide, filled

        if decide(mode, result.verdict, result.target) != "draw":
            return result
        try:
            check_breaker(self.path)
            return filled(result, [self.generate(prompt, **options)])
        except Exception as problem:  # of any kind: an answer does not fail because a generator does
            return filled(result, (), (str(problem) or type(problem).__name__,))

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

    def export(
        self,
        layout: str,
        place: PathLike,
        *,
        where: str | None = None,
        force: bool = False,
        partition_rows: int = 1_000_000,
        metadata: bool = False,
        with_index: bool = False,
        url: str | None = None,
        progress: "Callable[[Progress], None] | None" = None,
    ) -> "ExportReport":
        """Write the live images, with captions, as other tools expect them; the collection is only read.

        Args:
            layout: "clip-retrieval", "parquet", "npy", "lance" or "qdrant".
            place: folder or file to write; for a Qdrant server the name of its collection.
            where: only images for which this is true, as in ``search``.
            force: replace an earlier export of the same layout.
            partition_rows: clip-retrieval: rows in a partition, at most.
            metadata: clip-retrieval: more columns than image_path and caption.
            with_index: clip-retrieval: write ``image.index`` and ``text.index`` too.
            url: qdrant: a server; without one, ``place`` is a folder of the client's local mode.
            progress: called now and then with how far it is.

        Raises:
            UnknownNameError: no layout has that name.
            InputError: something is in the way, or there is nothing to export.
            FilterSyntaxError: ``where`` is not one boolean expression over the columns.
            MissingExtraError: the layout needs a package that is not installed.
            StorageError: the disk is full or cannot be written.
        """
        from clipsearch.flows.export import export
        from clipsearch.store.layouts import Options

        view = self._current()
        allowed = None if where is None else view.allowed(where, "images", self._lock)
        options = Options(force, partition_rows, metadata, url)
        return export(
            view.snapshot,
            layout,
            os.fspath(place),
            allowed=allowed,
            options=options,
            with_index=with_index,
            progress=progress,
        )

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

    def fit_augment(self, *, progress: "Callable[[Progress], None] | None" = None) -> "AugmentEvidence":
        """Measure on the collection's own held-back captions what each rung changes, and switch on those that help.

        A rung is on only where the lower bound of the 95 % interval of its change in R@10 is above zero. The model is
        not needed. New pictures or captions put all rungs out of use until the next call.

        Args:
            progress: called after each rung.

        Raises:
            InputError: fewer than 100 pictures, or than 90 % of them, have a caption, or there are more than 50,000.
            StorageError: the result cannot be written.
        """
        from clipsearch.flows.augment import fit

        self.refresh()
        return fit(self._current().snapshot, tell=progress)

    def augment_evidence(self) -> "AugmentEvidence | None":
        """Return what the last ``fit_augment`` measured; None where there was none."""
        from clipsearch.flows.augment_files import load_evidence

        return load_evidence(self._current().snapshot.path)

    def augment_off(self) -> bool:
        """Switch all rungs off until the next ``fit_augment``; False where none was on.

        Raises:
            StorageError: that cannot be written.
        """
        from clipsearch.flows.augment import switch_off

        return switch_off(self._current().snapshot.path)

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
        drawers, self._drawers = self._drawers, {}
        for drawer in drawers.values():
            drawer.close()

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


def _calibrated(store: Store, encoder: Encoder, report: R, progress: "Callable[[Progress], None] | None") -> R:
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
        collection._drawers = {}  # the processes are the parent's
        collection._store = Store(collection.path)  # it has a lock of its own


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
