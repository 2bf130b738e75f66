"""When a batch of changes is indexed: after a quiet time, and after a minute in any case."""

from contextlib import closing

import pytest

from clipsearch.errors import InputError, SourceNotFoundError
from clipsearch.flows import watch as flow
from clipsearch.flows.watch import WatchSettings, watch
from clipsearch.scan import ScanOptions


class Script:
    """A watcher that plays a list of changes, one a tick of 0.5 s, and an index run that notes when it is called."""

    def __init__(self, monkeypatch, ticks):
        self.ticks, self.now, self.runs, self.opened = iter(ticks), 0.0, [], 0
        monkeypatch.setattr(flow, "watching", self.watching)
        monkeypatch.setattr(flow.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(flow.time, "sleep", self.pause)
        self.asleep = lambda: None

    def watching(self, *_):
        self.opened += 1
        return closing(self)

    def close(self):
        pass

    def pause(self, _):
        self.asleep()

    def tick(self):
        step = next(self.ticks)
        self.now += 0.5
        return step() if callable(step) else step

    def index(self):
        self.runs.append(self.now)
        return self.runs[-1]


def played(script, place, said=None, **settings):
    """Return when runs were made, until the script ends."""
    reports = watch(
        place, script.index, ScanOptions(), WatchSettings(**settings), ([] if said is None else said).append
    )
    with pytest.raises((StopIteration, RuntimeError)):  # what ends a script inside a generator
        while True:
            next(reports)
    return script.runs


def test_a_run_comes_first_and_then_one_after_each_quiet_time(tmp_path, monkeypatch):
    ticks = [True, True, False, False, False, False, False, True, False, False, False, False, False]
    assert played(Script(monkeypatch, ticks), tmp_path, quiet_seconds=2.0) == [0.0, 3.0, 6.0]


def test_changes_without_end_are_indexed_all_the_same(tmp_path, monkeypatch):
    runs = played(Script(monkeypatch, [True] * 250), tmp_path, quiet_seconds=2.0)
    assert runs == [0.0, 60.5, 121.0]


def test_nothing_happens_without_a_change(tmp_path, monkeypatch):
    assert played(Script(monkeypatch, [False] * 100), tmp_path, quiet_seconds=0.0) == [0.0]


def test_a_folder_that_goes_away_is_waited_for_and_watched_anew(tmp_path, monkeypatch):
    folder, away = tmp_path / "photos", tmp_path / "away"
    folder.mkdir()
    script = Script(monkeypatch, [lambda: bool(folder.rename(away)), False, True, False, False, False])
    script.asleep = lambda: away.rename(folder)
    said = []
    assert played(script, folder, said, quiet_seconds=1.0) == [0.0, 0.5, 2.5]
    assert script.opened == 2 and "gone" in said[0] and "back" in said[1]


def test_another_folder_in_its_place_is_watched_anew(tmp_path, monkeypatch):
    folder = tmp_path / "photos"
    folder.mkdir()

    def replaced():
        folder.rename(tmp_path / "old")
        folder.mkdir()
        return False

    script = Script(monkeypatch, [replaced, False, False])
    assert played(script, folder) == [0.0, 0.5] and script.opened == 2


def test_a_folder_that_goes_away_during_a_run_does_not_end_it(tmp_path, monkeypatch):
    folder = tmp_path / "photos"
    folder.mkdir()
    script = Script(monkeypatch, [False])
    real, failures = script.index, [SourceNotFoundError("gone")]

    def index():
        if failures:
            raise failures.pop()
        return real()

    script.index = index
    assert played(script, folder) == [0.0]


def test_what_makes_no_sense_is_refused(tmp_path):
    with pytest.raises(SourceNotFoundError):
        next(watch(tmp_path / "none", list, ScanOptions(), WatchSettings(), print))
    for wrong in (WatchSettings(quiet_seconds=-1), WatchSettings(poll_seconds=0)):
        with pytest.raises(InputError, match="more"):
            next(watch(tmp_path, list, ScanOptions(), wrong, print))
