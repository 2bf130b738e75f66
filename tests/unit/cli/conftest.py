"""Run the command line in this process, on collections that answer what a test wants."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO, TextIOWrapper
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import clipsearch
from clipsearch.cli import run
from clipsearch.errors import CollectionNotFoundError
from clipsearch.types import Hit, SearchResult, Verdict


@dataclass(frozen=True)
class Done:
    code: int
    out: bytes
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.decode().splitlines()


@pytest.fixture
def cli(capsysbinary: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """Run ``clipsearch ARGS``; ``terminal`` makes stdout and stderr one of 80 cells."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("CLIPSEARCH_INDEXES", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")

    def call(*args: str, stdin: bytes = b"", terminal: bool = False) -> Done:
        monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(stdin)))
        for stream in (sys.stdout, sys.stderr):
            monkeypatch.setattr(stream, "isatty", lambda: terminal)
        code = run(args)
        out, err = capsysbinary.readouterr()
        return Done(code, out, err.decode())

    return call


@dataclass
class FakeCollection:
    """Answers with ``hits`` and notes what it was asked."""

    path: str
    model: str = "mini"
    note: str | None = None
    hits: list[Hit] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    asked: dict[str, Any] = field(default_factory=dict)
    report: Any = None
    failure: BaseException | None = None
    roots: tuple[Any, ...] = ()
    verdict: Verdict = Verdict.UNCALIBRATED
    p_value: float | None = None
    version: int = 3
    how: str | None = None

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]

    def __enter__(self) -> "FakeCollection":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def search(self, text: Any = None, **options: Any) -> SearchResult:
        self.asked = {"text": text, **options}
        if self.failure:
            raise self.failure
        hits = self.hits[: options["k"]]
        ids = np.array([hit.id for hit in hits], dtype=np.int64)
        levels = {} if self.p_value is None else {"match": 0.05, "none": 0.1}
        why = "it is small" if self.p_value is None else None
        scores = ids.astype(np.float32)
        return SearchResult(ids, scores, hits, self.verdict, self.p_value, options["target"], self.notes, levels, why)

    def build_index(self, index_type: str = "auto", **options: Any) -> Any:
        self.built = {"index_type": index_type, **options}
        return SimpleNamespace(action="none", line="exact search over 6 images")

    def index(self, source: Any, **options: Any) -> Any:
        self.asked = {"source": source, **options}
        if self.failure:
            raise self.failure
        return self.report

    def count(self, target: str) -> int:
        return 6 if target == "image" else 0

    def status(self) -> Any:
        return SimpleNamespace(version=self.version, roots=self.roots)


@pytest.fixture
def home(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An empty folder to work in, with a home of collections."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "indexes").mkdir()
    return tmp_path / "indexes"


@pytest.fixture
def fake(home: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCollection]:
    """The only collection of the home: ``photos``."""
    collection = FakeCollection(str(home / "photos"))
    (home / "photos").mkdir()
    (home / "photos" / "CURRENT").write_text("1")

    def open_it(path: str, **_: Any) -> FakeCollection:
        if not path.endswith("photos"):
            raise CollectionNotFoundError(f"There is no collection at {path}.")
        return collection

    def create_it(path: str, model: str | None = None, **_: Any) -> FakeCollection:
        collection.path, collection.model = path, model or "mini"
        collection.note = None if model else "a better model is to be had"
        return collection

    monkeypatch.setitem(vars(clipsearch), "open", open_it)
    monkeypatch.setitem(vars(clipsearch), "create", create_it)
    yield collection
