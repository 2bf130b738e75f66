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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO, TypedDict, TypeVar, Unpack, cast, overload

from clipsearch.embed import choose_model, devices_of, load_encoder
from clipsearch.embed.base import Encoder
from clipsearch.errors import InputError, LockedError, StorageError
from clipsearch.flows.identity import check_encoder, check_known, encoder_record, record_for_embeddings
from clipsearch.flows.query import KINDS, answer
from clipsearch.flows.query_embedding import embed
from clipsearch.flows.query_terms import build_queries
from clipsearch.flows.status import CollectionStatus, read_status
from clipsearch.flows.view import View
from clipsearch.registry import suggest
from clipsearch.store import Store
from clipsearch.types import GeneratedImage, SearchResult

if TYPE_CHECKING:
    from clipsearch.flows.alike import Limits
    from clipsearch.flows.ask import Answer, Asker, ColumnReport
    from clipsearch.flows.augment_files import AugmentEvidence
    from clipsearch.flows.augmenter import Augmenter
    from clipsearch.flows.captions import CaptionCounts
    from clipsearch.flows.cluster import ClusterReport
    from clipsearch.flows.compact import CompactReport
    from clipsearch.flows.describe import Describer, Descriptions
    from clipsearch.flows.duplicates import DuplicateReport
    from clipsearch.flows.evaluate import EvaluationReport
    from clipsearch.flows.evaluate_answers import AnswerAccuracy
    from clipsearch.flows.evaluate_duplicates import DuplicateAccuracy
    from clipsearch.flows.evaluate_match import MatchReport
    from clipsearch.flows.evaluate_words import CaptionAccuracy, LabelAccuracy, TagAccuracy
    from clipsearch.flows.export import ExportReport
    from clipsearch.flows.generators import Chosen
    from clipsearch.flows.imagine import Imaginer
    from clipsearch.flows.import_embeddings import ImportReport
    from clipsearch.flows.ingest import IndexReport
    from clipsearch.flows.outcome import BuildReport
    from clipsearch.flows.progress import Progress
    from clipsearch.flows.tables import ColumnInfo, SqlResult
    from clipsearch.flows.tag import TagReport
    from clipsearch.flows.verify import Verification
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
    imagine: bool | str
    fold: bool
    more: Sequence[int]
    less: Sequence[int]


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
        self._words: dict[str, tuple[Any, Any]] = {}  # what describes, asks, writes, with what it was made for
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

    @property
    def how(self) -> str | None:
        """What runs the encoder, in a few words; None until it is loaded."""
        return None if self._encoder is None else self._encoder.how

    def index(
        self,
        source: PathLike,
        *,
        captions: "PathLike | Sequence[PathLike] | None" = None,
        column: str | None = None,
        excludes: Sequence[str] = (),
        shard: str | None = None,
        retry_skipped: bool = False,
        prune_empty: bool = False,
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
        generated: str = "ignore",
    ) -> "IndexReport":
        """Bring the collection up to date with a source; only what is new or changed is embedded.

        New pictures get their values in the columns that were added before (tags, answers, clusters) too.

        Args:
            source: folder, image, tar, CSV or Parquet file (of paths, or of the pictures' bytes), or "-" for paths
                on ``stdin``.
            captions: files of captions (CSV, JSON, JSON Lines, Parquet, text), one or several; also "sidecars" for
                texts beside pictures and "embedded" for IPTC and XMP captions and keywords inside them.
            column: the column of paths or pictures, where the source is a table.
            excludes: glob patterns of names to leave out; what is indexed already of them is taken out.
            shard: "i/n": index only part i, from 1, of n parts of the source; a file's path decides its part.
            retry_skipped: decode files again that could not be decoded before, or were generated, and have not changed.
            prune_empty: take out what is known from folders that stand empty, the source itself among them; else it
                is kept, as that of a drive that is not mounted.
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
            generated: what becomes of pictures that a generator made, by their marks or the ledger: "ignore" leaves
                them out; "mark" indexes them with true in the column ``generated``, and every hit says so.

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
            shard=shard,
            retry_skipped=retry_skipped,
            prune_empty=prune_empty,
            batch_size=batch_size,
            workers=workers,
            commit_rows=commit_rows,
            commit_seconds=commit_seconds,
            wait=wait,
            stdin=stdin,
            progress=progress,
            generated=generated,
        )
        report = _calibrated(self._store, encoder, report, progress)
        report = _renewed(self._store, lambda: encoder, report, wait, progress)
        self.refresh()
        return report

    def watch(
        self,
        source: PathLike,
        *,
        quiet_seconds: float = 2.0,
        poll_seconds: float | None = None,
        excludes: Sequence[str] = (),
        say: Callable[[str], None] | None = None,
        **options: Any,  # Any: the other options of ``index``
    ) -> "Iterator[IndexReport]":
        """Keep the collection current with a folder: yields the report of a first run, then one a batch of changes.

        It never ends by itself: break out of the loop. Safe to kill at any moment.

        Args:
            source: a folder.
            quiet_seconds: how long nothing may have changed before a batch is indexed; after a minute it is anyway.
            poll_seconds: look at all files every so often, for drives that send no events; None takes the system's
                events.
            excludes: glob patterns of names to leave out.
            say: called with one sentence when the folder is gone and when it is back.
            options: as for ``index``.

        Raises:
            SourceNotFoundError: there is no such folder.
            MissingExtraError: watchfiles is not installed, and ``poll_seconds`` is None.
        """
        from clipsearch.flows.watch import WatchSettings, watch
        from clipsearch.scan import ScanOptions

        settings = WatchSettings(quiet_seconds, poll_seconds=poll_seconds)
        left_out = ScanOptions(excludes=tuple(excludes), exclude_dirs=(os.fsencode(self.path),))

        def run() -> "IndexReport":
            return self.index(source, excludes=excludes, **{"wait": True, **options})

        return watch(source, run, left_out, settings, say or (lambda _: None))

    def index_texts(
        self,
        captions: "PathLike | Sequence[PathLike]",
        *,
        wait: bool = False,
        progress: "Callable[[Progress], None] | None" = None,
    ) -> "CaptionCounts":
        """Add texts alone: a caption bank, or captions of pictures that are there already; no picture is looked for.

        Args:
            captions: as ``index`` takes them.
            wait: wait for another writer instead of raising LockedError.
            progress: called now and then with how far it is.

        Raises:
            SourceNotFoundError: there is no such file.
            InputError: it cannot be read, or holds no text.
            LockedError: another process is writing to the collection.
        """
        from clipsearch.flows.calibrate import renew
        from clipsearch.flows.texts import ingest_texts

        counts = ingest_texts(self._store, self.encoder, captions, wait=wait, tell=progress or (lambda _: None))
        renew(self._store, self.encoder, progress)
        self.refresh()
        return counts

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
        report = _renewed(self._store, lambda: self.encoder, report, wait, progress)
        self.refresh()
        return report

    def build_index(
        self,
        index_type: str = "auto",
        *,
        target: str = "image",
        recipe: str | None = None,
        memory_bytes: int | None = None,
        jobs: int = 1,
        retrain: bool = False,
        wait: bool = False,
        progress: "Callable[[Progress], None] | None" = None,
        say: Callable[[str], None] | None = None,
    ) -> "BuildReport":
        """Build, extend or remove the approximate index of the pictures or of the texts; does as little as it can.

        Up to 200,000 rows there is none: comparing them all costs less than encoding the query. Without calling
        this, searches find everything too, only slower: rows that the index does not cover are compared one by one.

        Args:
            index_type: "auto", "flat" (none), "ivfflat" or "ivfpq".
            target: "image" for the pictures, "text" for the captions and other texts, as in ``search``.
            recipe: name of a recipe, or a TOML file, in place of a choice.
            memory_bytes: what building may take; None takes 70 % of what is free.
            jobs: processes that put rows into the index.
            retrain: build anew even where there is an index.
            wait: wait for another process that is building instead of raising LockedError.
            progress: called now and then with how far it is.
            say: called with the choice, in one line, before the work begins.

        Raises:
            InputError: too few rows or too little memory, with figures; a wrong recipe.
            MissingExtraError: faiss is not installed.
            LockedError: another process is building.
        """
        _known(target)
        from clipsearch.flows.build import update_index

        report = update_index(
            self._store,
            lambda: self.encoder,
            kind=KINDS[target],
            index_type=index_type,
            recipe=recipe,
            memory_bytes=memory_bytes,
            jobs=jobs,
            retrain=retrain,
            wait=wait,
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
        imagine: bool | str = False,
        fold: bool = False,
        more: Sequence[int] = (),
        less: Sequence[int] = (),
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
            imagine: draw a picture for the text (a minute at most) and let it take part in that order, where
                ``fit_augment(["imagined"])`` switched that on; "anyway" does so without evidence. ``notes`` says what
                was drawn, or why nothing was; the search never fails of it.
            fold: fold pictures that show the same thing (the same bytes or picture, the same burst), or texts of the
                same words, into one hit; ``SearchResult.folded`` has the others. The verdict does not depend on it.
            more: row ids of pictures that the hits should be more like; the query itself always weighs most.
            less: row ids of pictures that they should be less like.

        Returns:
            A ``SearchResult``, or a list of them where a list was asked.

        Raises:
            InputError: the request is wrong; QueryImageError: a query picture cannot be read.
            FilterSyntaxError: ``where`` is not one boolean expression over the columns.
            ManifestMismatchError: the encoder is not the one that the collection was made with.
        """
        _known(target)
        queries, many = build_queries(text, image, vector, add, subtract, weights)
        view = self._current()
        feedback = None
        if len(more) or len(less):
            from clipsearch.flows.feedback import moved

            if target != "image":
                raise InputError("more and less name pictures, so they go with the target 'image' only.")
            feedback = lambda xq: moved(view.snapshot, xq, more, less)  # noqa: E731 (bound to this view)
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
            notes=view.notes.get(KINDS[target], ()),
            judge=view.judge(KINDS[target], where, self._lock),
            augmenter=self._augmenter(view, augment, imagine),
            fold=fold,
            feedback=feedback,
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
        sign_with: tuple[PathLike, PathLike] | None = None,
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
            sign_with: PEM files of a certificate chain and its private key, to sign the picture by C2PA.

        Raises:
            InputError: the arguments make no sense.
            WeightsNotFoundError: there is no generator of that name, or none at all, on this machine.
            MissingExtraError: what draws or signs is not installed.
            GenerationError: nothing was drawn; RejectedError: what was drawn does not show the prompt.
        """
        from clipsearch.flows.fill import Wish, draw, read_source
        from clipsearch.flows.generators import need_generator
        from clipsearch.generate.base import Options
        from clipsearch.generate.signing import read_signer

        chosen = need_generator(self.path, model, device, dtype)
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
        signer = None if sign_with is None else read_signer(os.fspath(sign_with[0]), os.fspath(sign_with[1]))
        wish = Wish(prompt, best_of or chosen.tries, seed, options, source, with_prompt, seconds, signer)
        return draw(self.path, self.encoder, chosen, self._drawer(chosen), wish)

    def _augmenter(self, view: "View", augment: bool, imagine: bool | str) -> "Augmenter | None":
        """Return the rungs for a search."""
        if imagine and not augment:
            raise InputError(
                "imagine is a kind of augmentation, and augment=False leaves all out. Give one of the two."
            )
        known = view.augmenter() if augment else None
        if not imagine:
            return known
        from clipsearch.flows.augmenter import Augmenter
        from clipsearch.flows.imagine import imagining

        return imagining(known or Augmenter(), self._imaginer, "measured" if imagine is True else str(imagine))

    def _imaginer(self, model: str | None) -> "Imaginer":
        """Return what draws for a query, by the name of a generator."""
        from clipsearch.flows.imagine import SECONDS, Imaginer

        def draw(text: str) -> GeneratedImage:
            return self.generate(text, model=model, seconds=SECONDS)

        return Imaginer(self.path, draw, lambda: self.encoder, model or "the best generator")

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

    def tag(
        self,
        labels: "PathLike | Sequence[str] | None" = None,
        *,
        level: float = 0.8,
        single: bool = False,
        templates: Sequence[str] | None = None,
        truth: "Sequence[tuple[str, str]] | PathLike | None" = None,
        column: str = "tags",
        xmp: bool = False,
        wait: bool = False,
        progress: "Callable[[Progress], None] | None" = None,
    ) -> "TagReport":
        """Give all pictures tags, as a column that ``where`` can use: ``"'dog' IN tags"``; see ``flows.tag``.

        Args:
            labels: a file with one a line, or a list; None takes the vocabulary that ships.
            level: share of the tags that is to be right; ``TagReport.source`` says by whose word.
            single: at most one tag a picture.
            templates: how a label is asked for, such as ``"a photo of {}"``; None takes those that ship.
            truth: true labels of some pictures: (image, label) pairs, a CSV with these columns, or a folder of
                labelled folders.
            column: name of the column; one of that name that was added before is replaced.
            xmp: write the tags beside the pictures too, as ``photo.jpg.xmp``.
            wait: wait for another writer instead of raising LockedError.
            progress: called now and then with how far it is.

        Raises:
            InputError: the labels, the level, the truth or the name cannot be used.
            LockedError: another process is writing to the collection.
        """
        from clipsearch.describe.labels import default_labels, make_labels, read_labels
        from clipsearch.flows.tag import tag
        from clipsearch.flows.tag_learn import TagOptions

        if labels is None:
            asked = default_labels()
        else:
            asked = read_labels(labels) if isinstance(labels, str | os.PathLike) else make_labels(labels)
        if templates is not None:
            asked = asked.with_templates(templates)
        file = os.path.abspath(labels) if isinstance(labels, str | os.PathLike) else ""
        options = TagOptions(level, single, column, os.fsdecode(file))
        report = tag(self._store, self.encoder, asked, options, truth=truth, xmp=xmp, wait=wait, tell=progress)
        self.refresh()
        return report

    def describe(
        self,
        image: OneImage,
        *,
        k: int = 3,
        bank: PathLike | None = None,
        compose: bool = False,
        model: str | None = None,
        where: str | None = None,
    ) -> "Descriptions":
        """Say in words what a picture shows: captions as they are, a sentence made of tags, or a model's words.

        Args:
            image: path, bytes or binary stream of the picture.
            k: captions wanted.
            bank: a file of captions to describe with, in place of the collection's own texts.
            compose: make a sentence of tags even where a caption matches.
            model: a vision-language model to write a sentence too: its name, or the folder of a checkpoint.
            where: only captions of pictures for which this is true.

        Raises:
            QueryImageError: the picture cannot be read.
            WeightsNotFoundError: the model is not on this machine.
        """
        from clipsearch.flows.describe import decoded, with_model

        data = image.read() if not isinstance(image, str | os.PathLike | bytes) else image
        describer = self._describer(None if bank is None else os.fspath(bank))
        seen = decoded(data, self.encoder)
        row = embed(build_queries(None, seen)[0], self.encoder.dim, lambda: self.encoder)[0][0]
        captions = cast(
            SearchResult, self.search(image=seen, target="text", k=k, where=where, fold=True)
        )  # one picture, one answer
        found = describer.describe(_called(image), row, captions, k, always=compose)
        if model is None:
            return found
        from clipsearch.flows.writer import read_picture

        text = self._writer(model).write(read_picture(data))
        return with_model(found, text, model)

    def ask(
        self,
        image: OneImage,
        question: str,
        choices: Sequence[str] | None = None,
        *,
        model: str | None = None,
    ) -> "Answer":
        """Answer a question about a picture: one of the choices or none of these; yes or no; or a model's words.

        Args:
            image: path, bytes or binary stream of the picture.
            question: such as "how many dogs are there?"
            choices: the answers to choose from; not needed for yes or no.
            model: a vision-language model for open questions: its name, or the folder of a checkpoint.

        Raises:
            InputError: the question is open and there is no model, or choices are equal.
            QueryImageError: the picture cannot be read.
        """
        from clipsearch.flows.ask import Answer

        data = image.read() if not isinstance(image, str | os.PathLike | bytes) else image
        if model is not None and choices is None:
            from clipsearch.flows.writer import read_picture

            text = self._writer(model).write(read_picture(data), question)
            return Answer(_called(image), question, text, (), None, "open", "model")
        asker = self._asker(question, choices)
        row = embed(build_queries(None, data)[0], self.encoder.dim, lambda: self.encoder)[0][0]
        return asker.answer(_called(image), row)

    def ask_all(
        self,
        question: str,
        choices: Sequence[str] | None = None,
        *,
        column: str | None = None,
        wait: bool = False,
        progress: "Callable[[Progress], None] | None" = None,
    ) -> "ColumnReport":
        """Answer a question for all pictures, as a column that ``where`` can use; NULL for none of these.

        Args:
            question: such as "is there a person in it?"
            choices: the answers to choose from; not needed for yes or no.
            column: its name; None makes one of the question.
            wait: wait for another writer instead of raising LockedError.
            progress: called now and then with how far it is.

        Raises:
            InputError: the question is open, or choices are equal.
            LockedError: another process is writing to the collection.
        """
        from clipsearch.flows.ask import ask_all

        report = ask_all(self._store, self.encoder, question, choices, column, wait=wait, tell=progress)
        self.refresh()
        return report

    def _describer(self, bank: str | None) -> "Describer":
        """Return what describes pictures; the same one as before for the same version and bank."""
        from clipsearch.flows.describe import Describer

        return self._kept(("describe", bank), lambda: Describer(self._current().snapshot, self.encoder, bank))

    def _asker(self, question: str, choices: Sequence[str] | None) -> "Asker":
        """Return what answers a question; the same one as before for the same version."""
        from clipsearch.flows.ask import Asker

        key = ("ask", question, None if choices is None else tuple(choices))
        return self._kept(key, lambda: Asker(self._current().snapshot, self.encoder, question, choices))

    def _writer(self, model: str) -> Any:  # Any: describe.vlm.Writer, which needs torch to be imported
        from clipsearch.flows.writer import open_writer

        return self._kept(("writer", model), lambda: open_writer(model, self._how["device"]))

    def _kept(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:  # Any: one of the above
        """Return what was made for a key and this version, one of each kind; made now where there is none."""
        version = 0 if key[0] == "writer" else self._current().snapshot.version
        with self._lock:
            known = self._words.get(key[0])
            if known is None or known[0] != (key, version):
                known = self._words[key[0]] = ((key, version), make())
            return known[1]

    def drop_column(self, name: str, *, wait: bool = False) -> None:
        """Take out a column that was added, such as tags.

        Args:
            name: the column's.
            wait: wait for another writer instead of raising LockedError.

        Raises:
            InputError: there is none of that name.
            LockedError: another process is writing to the collection.
        """
        with self._store.writer(wait=wait) as writer:
            writer.drop_added(name)
        self.refresh()

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

    def duplicates(
        self,
        *,
        where: str | None = None,
        limits: "Limits | None" = None,
        look: bool = True,
        thorough: bool = False,
        exact: bool | None = None,
        progress: "Callable[[Progress], None] | None" = None,
    ) -> "DuplicateReport":
        """Find pictures that are there more than once: same bytes, same picture, or a burst. Nothing is deleted.

        Args:
            where: look only among pictures for which this is true, as in ``search``.
            limits: what counts as alike; None takes the measured limits.
            look: open the files of pairs that may be the same picture; False goes by embeddings alone.
            thorough: open every file, and find copies by their pixels too; finds those that are smaller than what the
                model sees.
            exact: compare every pair of embeddings; None does so up to 50,000 pictures.
            progress: called now and then while files are opened.

        Raises:
            InputError: a limit makes no sense, or too many pictures are that much alike.
            FilterSyntaxError: ``where`` is not one boolean expression over the columns.
        """
        from clipsearch.flows.duplicates import find_duplicates

        view = self._current()
        allowed = None if where is None else view.allowed(where, "images", self._lock)
        return find_duplicates(
            view.snapshot, allowed=allowed, limits=limits, look=look, thorough=thorough, exact=exact, progress=progress
        )

    def clusters(
        self,
        *,
        k: int | None = None,
        labels: "PathLike | Sequence[str] | None" = None,
        where: str | None = None,
        seed: int = 0,
        column: str | None = "cluster",
        wait: bool = False,
    ) -> "ClusterReport":
        """Part the pictures into clusters, each with the word that tells it best from the others.

        Args:
            k: clusters; None takes the square root of half the pictures, from 2 to 50.
            labels: words to take names from, or a file of labels as ``tag`` takes it; None takes the pictures' tags, or
                the vocabulary that ships where there are fewer tags than clusters; an empty list gives no names.
            where: only pictures for which this is true, as in ``search``.
            seed: the same one gives the same clusters.
            column: keep the clusters as columns that ``where`` can use: their number, from 1, and as ``cluster_name``
                their name. Later pictures join the nearest cluster, unless ``where`` chose the pictures. None writes
                nothing.
            wait: wait for another writer instead of raising LockedError.

        Raises:
            InputError: there are fewer pictures than clusters, or the column has no such name.
            FilterSyntaxError: ``where`` is not one boolean expression over the columns.
            LockedError: another process is writing to the collection.
        """
        from clipsearch.describe.labels import read_labels
        from clipsearch.flows.cluster import check_columns, find_clusters, write_clusters

        view = self._current()
        if column is not None:
            check_columns(column, view.snapshot)
        allowed = None if where is None else view.allowed(where, "images", self._lock)
        words = read_labels(labels) if isinstance(labels, str | os.PathLike) else labels
        report = find_clusters(view.snapshot, lambda: self.encoder, k=k, labels=words, allowed=allowed, seed=seed)
        if column is not None:
            report = write_clusters(self._store, view.snapshot, report, column, partial=allowed is not None, wait=wait)
            self.refresh()
        return report

    @property
    def version(self) -> int:
        """Version of the collection that searches use."""
        return self._current().snapshot.version

    def count(self, target: str = "image") -> int:
        """Return how many pictures ("image") or texts ("text") searches find.

        Raises:
            InputError: there is no such target.
        """
        return self._current().snapshot.count(KINDS[_known(target)])

    def status(self) -> CollectionStatus:
        """Return what the collection holds, in the version that searches use."""
        return read_status(self._current().snapshot)

    def verify(self, progress: "Callable[[Progress], None] | None" = None) -> "Verification":
        """Read every file of the collection and say which are not what was written; nothing is changed.

        Args:
            progress: called now and then with the bytes read.
        """
        from clipsearch.flows.verify import verify

        return verify(self.path, progress)

    def compact(
        self,
        *,
        dry_run: bool = False,
        wait: bool = False,
        progress: "Callable[[Progress], None] | None" = None,
    ) -> "CompactReport":
        """Merge small shards and drop deleted rows; ids and answers stay as they are.

        Searches go on meanwhile, in this process and in others. The files of the version before stay until the next
        call, or the next index run.

        Args:
            dry_run: only say what would be done.
            wait: wait for another writer instead of raising LockedError.
            progress: called now and then with the rows written.

        Raises:
            LockedError: another process is writing to the collection, or building its index.
            CorruptShardError: a shard is not what was written.
            StorageError: the disk is full or cannot be written; everything is as it was.
        """
        from clipsearch.flows.compact import compact

        self._current()
        report = compact(self._store, dry_run=dry_run, wait=wait, progress=progress)
        self.refresh()
        return report

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

    def evaluate_labels(
        self, truth: "Sequence[tuple[str, str]] | PathLike", labels: "PathLike | Sequence[str] | None" = None
    ) -> "LabelAccuracy":
        """Measure zero-shot classification: top-1 and top-5 on labelled pictures of the collection.

        Args:
            truth: (image, label) pairs, a CSV with these columns, or a folder of labelled folders.
            labels: what to choose from: a file, or a list; None takes the labels of the truth.

        Raises:
            InputError: no pair can be used.
        """
        from clipsearch.describe.labels import make_labels, read_labels
        from clipsearch.flows.evaluate_words import evaluate_labels

        asked = None
        if labels is not None:
            asked = read_labels(labels) if isinstance(labels, str | os.PathLike) else make_labels(labels)
        return evaluate_labels(self._current().snapshot, self.encoder, truth, asked)

    def evaluate_tags(self, truth: "Sequence[tuple[str, str]] | PathLike", column: str = "tags") -> "TagAccuracy":
        """Measure precision and recall of stored tags; give pictures that they were not calibrated on.

        Args:
            truth: as ``evaluate_labels`` takes it.
            column: the column of tags.

        Raises:
            InputError: there is no such column, or no pair can be used.
        """
        from clipsearch.flows.evaluate_words import evaluate_tags

        return evaluate_tags(self._current().snapshot, truth, column)

    def evaluate_descriptions(self, references: PathLike, bank: PathLike | None = None) -> "CaptionAccuracy":
        """Measure the caption that each picture gets, with BLEU, ROUGE-L and CIDEr-D.

        Args:
            references: a file of images and captions.
            bank: a file of texts to choose from; None takes the collection's, but for the picture's own.

        Raises:
            InputError: no picture can be used, or there is no text to choose from.
        """
        from clipsearch.flows.evaluate_words import evaluate_descriptions

        return evaluate_descriptions(self._current().snapshot, self.encoder, references, bank)

    def evaluate_answers(self, questions: PathLike) -> "AnswerAccuracy":
        """Measure answers on a CSV with the columns image, question, choices (with | between) and answer.

        Raises:
            InputError: it has no such columns, or no row can be used.
        """
        from clipsearch.flows.evaluate_answers import evaluate_answers

        return evaluate_answers(self._current().snapshot, self.encoder, questions)

    def evaluate_duplicates(
        self,
        truth: PathLike | None = None,
        *,
        plant: int | None = None,
        seed: int = 0,
        limits: "Limits | None" = None,
        look: bool = True,
        thorough: bool = False,
        exact: bool | None = None,
        progress: "Callable[[Progress], None] | None" = None,
    ) -> "DuplicateAccuracy":
        """Measure ``duplicates`` against known copies: those that a file names, or copies planted for the purpose.

        Args:
            truth: a CSV with the columns image, duplicate_of and, if known, class ("same bytes", "same picture" or
                "burst"); images as ``evaluate`` finds them. A line with an empty duplicate_of names a picture without
                a copy.
            plant: in its place, how many pictures of the collection to copy, in several ways, into a temporary folder
                and a temporary collection, which are removed; the collection itself never changes.
            seed: decides which pictures are planted.
            limits: what counts as alike, as in ``duplicates``.
            look: open the files of pairs that may be the same picture, as there.
            thorough: open every file, as there.
            exact: compare every pair of embeddings, as there.
            progress: called now and then.

        Raises:
            InputError: not one of ``truth`` and ``plant`` is given; the file has no such columns, names no such class
                or no pair that can be used; or there are fewer pictures than are to be planted.
            StorageError: copies cannot be written.
        """
        from clipsearch.flows.alike import Limits
        from clipsearch.flows.evaluate_duplicates import Finder, evaluate_duplicates

        if (truth is None) == (plant is None):
            raise InputError("Give a file of duplicates, or a number of pictures to plant: one of the two.")
        snapshot = self._current().snapshot
        find = Finder(limits or Limits(), look, thorough, exact, progress)
        if truth is not None:
            return evaluate_duplicates(snapshot, truth, find)
        from clipsearch.flows.plant_duplicates import plant_duplicates

        return plant_duplicates(snapshot, self.encoder, plant or 0, find, seed=seed, tell=progress)

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
        _known(target)
        from clipsearch.flows.evaluate_match import evaluate_match

        return evaluate_match(
            self._current().snapshot, self.encoder, target=target, repetitions=repetitions, seed=seed, tell=progress
        )

    def fit_augment(
        self,
        rungs: Sequence[str] | None = None,
        *,
        generator: str | None = None,
        samples: int = 100,
        progress: "Callable[[Progress], None] | None" = None,
        say: Callable[[str], None] | None = None,
    ) -> "AugmentEvidence":
        """Measure on the collection's own held-back captions what each rung changes, and switch on those that help.

        A rung is on only where the lower bound of the 95 % interval of its change in R@10 is above zero. The model is
        not needed, but for "imagined". New pictures or captions put all rungs out of use until the next call.

        Args:
            rungs: names; None takes all but "imagined", which draws a picture for each of ``samples`` captions, and is
                used by searches that ask for it (``imagine``) only.
            generator: what draws; None takes the best one on this machine.
            samples: captions to draw for, 50 to 2,000.
            progress: called after each rung, or picture.
            say: called with how long drawing will take, before most of it.

        Raises:
            InputError: fewer than 100 pictures, or than 90 % of them, have a caption, or there are more than 50,000.
            UnknownNameError: there is no such rung or generator.
            GenerationError: drawing failed several times in a row.
            StorageError: the result cannot be written.
        """
        from clipsearch.flows.augment import choose_rungs, fit, is_current

        self.refresh()
        plain, drawn = choose_rungs(rungs)
        snapshot = self._current().snapshot
        evidence = None
        if plain is None or plain or not is_current(snapshot):
            evidence = fit(snapshot, names=plain or None, tell=progress)
        if not drawn:
            return cast("AugmentEvidence", evidence)
        from clipsearch.flows.generators import need_generator
        from clipsearch.flows.imagine import fit as fit_imagined

        chosen = need_generator(self.path, generator)
        imaginer = self._imaginer(chosen.card.name)
        return fit_imagined(snapshot, imaginer, samples=samples, seconds=chosen.seconds, tell=progress, say=say)

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
            if snapshot.version == view.snapshot.version and view.is_current():
                return False
            self._view = View(snapshot)
            return True

    def close(self) -> None:
        """Let go of everything. Searches under way finish; later calls raise InputError. May be called twice."""
        self._view = None
        self._encoder = None
        self._words = {}
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


def _known(target: str) -> str:
    """Return a search target, or say which there are."""
    if target not in KINDS:
        raise InputError(suggest("search target", target, KINDS))
    return target


def _called(image: Any) -> str:  # Any: path, bytes or stream
    """Return how to call a picture in an answer."""
    return os.fspath(image) if isinstance(image, str | os.PathLike) else getattr(image, "name", "picture")


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


def _renewed(
    store: Store,
    encoder: Callable[[], Encoder],
    report: R,
    wait: bool,
    progress: "Callable[[Progress], None] | None",
) -> R:
    """Give new pictures their values in the added columns, and say so in the report; the rows are safe anyway."""
    from clipsearch.flows.renewal import Renewed, renew_columns

    if not store.snapshot().added_columns():
        return report
    start = time.monotonic()
    try:
        done = renew_columns(store, encoder, wait=wait, tell=progress)
    except (StorageError, LockedError) as problem:
        why = str(problem).split("\n", 1)[0]
        done = Renewed(notes=(f"New pictures have no value in the added columns until the next run: {why}",))
    if done == Renewed():
        return report
    seconds = time.monotonic() - start
    return replace(
        report,
        columns=done.columns,
        stages={**report.stages, "columns": seconds},
        seconds=report.seconds + seconds,
        notes=(*report.notes, *done.notes),
        version=store.snapshot().version,
    )


# Collections of this process, so that a forked child can renew their locks; weak, so that it keeps none alive.
_ALIVE: "weakref.WeakSet[Collection]" = weakref.WeakSet()


def _renew_locks() -> None:
    for collection in list(_ALIVE):
        collection._lock = threading.RLock()
        collection._drawers = {}  # the processes are the parent's
        collection._store = Store(collection.path)  # it has a lock of its own


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
