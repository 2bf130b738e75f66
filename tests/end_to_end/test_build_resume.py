"""A build that was killed, stopped, starved or spread over processes comes to the same index as one left alone."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_build import DATA, Model

import clipsearch
from clipsearch.errors import InputError
from clipsearch.flows import build_run, build_state, index_files, measuring, part_worker
from clipsearch.index import costs, tuning
from clipsearch.index.recipe import load_recipe

pytest.importorskip("faiss", reason="faiss is not installed")

ROWS, PART = 4000, 900
# A build in a process of its own, killed when it says for the n-th time that it is at a stage.
KILLED = """
import os, signal, sys
import clipsearch
from clipsearch.flows import measuring
from clipsearch.index import costs, tuning
path, index_type, stage, times, jobs = sys.argv[1:]
costs.PART_ROWS = 900
measuring.QUERIES = {"text": 10, "image": 10}
tuning.NPROBES, tuning.REFINES = (32,), (20,)
left = int(times)
def tell(progress):
    global left
    left -= progress.stage == stage
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
if stage == "clock":
    import threading
    threading.Timer(float(times), os.kill, (os.getpid(), signal.SIGKILL)).start()
    left = -1
clipsearch.open(path).build_index(index_type, progress=tell, jobs=int(jobs))
os._exit(0)
"""


@pytest.fixture(autouse=True)
def small_steps(monkeypatch):
    monkeypatch.setattr(measuring, "QUERIES", {"text": 10, "image": 10})
    monkeypatch.setattr(tuning, "NPROBES", (32,))  # measuring is not what is looked at here
    monkeypatch.setattr(tuning, "REFINES", (20,))
    monkeypatch.setattr(costs, "PART_ROWS", PART)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    model = Model(tmp_path_factory.mktemp("resume") / "photos", ROWS, captions=80)
    model.delete(range(100, 150))
    return model


@pytest.fixture(scope="module")
def undisturbed(photos, tmp_path_factory):
    """The digests of the files of builds that nobody disturbed, by type."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(costs, "PART_ROWS", PART)
        patched.setattr(measuring, "QUERIES", {"text": 10, "image": 10})
        patched.setattr(tuning, "NPROBES", (32,))
        yield _undisturbed(photos, tmp_path_factory)


def _undisturbed(photos, tmp_path_factory):
    found = {}
    for index_type in ("ivfpq", "ivfflat"):
        copy = shutil.copytree(photos.collection.path, tmp_path_factory.mktemp("whole") / "photos")
        with clipsearch.open(copy) as collection:
            collection.build_index(index_type)
            found[index_type] = digests(copy)
    return found


@pytest.fixture
def copy(photos, tmp_path):
    return shutil.copytree(photos.collection.path, tmp_path / "photos")


def digests(path):
    record = index_files.read_record(str(path))
    return [record.rows, record.imbalance, *(file.sha256 for file in record.files)]


def kill_at(path, index_type, stage, times, jobs=1):
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), index_type, stage, str(times), str(jobs)])
    return done.returncode


def go_on(path, index_type="auto", **how):
    """Build, and return the report and the stages that were told of."""
    stages = []
    with clipsearch.open(path) as collection:
        report = collection.build_index(index_type, progress=lambda p: stages.append(p.stage), **how)
    return report, set(stages)


def leftovers(path):
    """What lies in index/ beside the index in force."""
    return set(os.listdir(path / "index")) - index_files.files_in_force(str(path)) - {"CURRENT", ".lock"}


@pytest.mark.parametrize(
    ("index_type", "stage", "times", "again"),
    [
        ("ivfpq", "train", 5, {"sample", "train", "add", "save", "rows", "compare", "measure"}),
        ("ivfpq", "add", 3, {"add", "save", "rows", "compare", "measure"}),
        ("ivfflat", "save", 1, {"save", "rows", "compare", "measure"}),
        ("ivfpq", "rows", 1, {"rows", "compare", "measure"}),
        ("ivfpq", "measure", 2, {"compare", "measure"}),
    ],
)
def test_a_killed_build_goes_on_from_what_was_finished(copy, undisturbed, index_type, stage, times, again):
    assert kill_at(copy, index_type, stage, times) == -signal.SIGKILL
    assert index_files.read_record(str(copy)) is None
    report, stages = go_on(copy, index_type)
    assert stages == again
    assert report.resumed == (stage != "train")
    assert digests(copy) == undisturbed[index_type]
    assert not leftovers(copy)


def test_of_the_parts_only_those_missing_are_filled(copy, monkeypatch):
    kill_at(copy, "ivfpq", "add", 4)
    done = build_state.read_state(str(copy / "index")).parts
    assert 1 <= len(done) < 5
    filled = []
    fill = part_worker.fill
    monkeypatch.setattr(part_worker, "fill", lambda task, told: filled.append(task.number) or fill(task, told))
    go_on(copy, "ivfpq")
    assert sorted(filled) == sorted(set(range(5)) - {part.number for part in done})


def test_rows_that_came_and_went_meanwhile_cost_their_parts_and_not_the_training(copy):
    kill_at(copy, "ivfpq", "rows", 1)  # all parts joined: what was deleted costs those after it too
    kept = build_state.read_state(str(copy / "index"))
    model = object.__new__(Model)
    model.collection, model.made = clipsearch.open(copy), ROWS
    blocks = list(model.collection._store.snapshot().blocks())
    model.rows = {int(i): row for b in blocks for i, row in zip(b.ids, b.embeddings, strict=True)}
    for gone in range(100, 150):
        model.rows.pop(gone, None)
    model.add(300)
    model.delete([2000, 2001])
    report, stages = go_on(copy, "ivfpq")
    assert report.resumed and "train" not in stages and "add" in stages
    record = index_files.read_record(str(copy))
    assert (record.rows, record.trained_rows) == (len(model.rows), kept.sampled_rows)
    model.collection.refresh()
    assert model.recall(DATA.text_queries(50)) >= 0.95
    model.collection.close()


def test_another_recipe_or_damage_starts_anew(copy, tmp_path):
    kill_at(copy, "ivfpq", "rows", 1)
    report, stages = go_on(copy, "ivfflat")
    assert not report.resumed and "train" in stages and report.type == "ivfflat"
    assert not leftovers(copy)


@pytest.mark.parametrize("what", ["building.json", "trained-*"])
def test_a_damaged_beginning_is_thrown_away(copy, undisturbed, what):
    kill_at(copy, "ivfpq", "rows", 1)
    file = next((copy / "index").glob(what))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.unlink()
    file.write_bytes(data)
    report, _ = go_on(copy, "ivfpq")
    assert not report.resumed
    assert digests(copy) == undisturbed["ivfpq"]


def test_a_damaged_part_is_filled_again(copy, undisturbed):
    kill_at(copy, "ivfpq", "add", 4)
    file = next((copy / "index").glob("part-*"))
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.unlink()
    file.write_bytes(data)
    report, _ = go_on(copy, "ivfpq")
    assert report.resumed
    assert digests(copy) == undisturbed["ivfpq"]


def test_an_index_in_force_stays_in_force_while_another_is_begun(copy):
    go_on(copy, "ivfflat")
    before = digests(copy)
    kill_at(copy, "ivfpq", "rows", 1)
    assert digests(copy) == before
    with clipsearch.open(copy) as collection:
        assert collection._current().index("images", threading.RLock()).base.recipe.type == "ivfflat"
        report = collection.build_index("ivfpq")
    assert report.resumed and digests(copy) != before and not leftovers(copy)


def test_ctrl_c_keeps_what_is_built_and_says_so(copy, undisturbed, capsys, monkeypatch):
    from clipsearch.cli import run
    from clipsearch.flows import build_parts

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(build_parts, "write_rows", stop)
        assert run(["index", "--index-type", "ivfpq", "-i", str(copy)]) == 130
    assert "The same command goes on from there" in capsys.readouterr().err
    assert run(["index", "--index-type", "ivfpq", "-i", str(copy)]) == 0
    err = capsys.readouterr().err
    assert "going on with the build that was stopped; trained, and all images added" in err
    assert digests(copy) == undisturbed["ivfpq"]


def test_parts_filled_in_processes_come_to_the_same_index(copy, undisturbed):
    report, _ = go_on(copy, "ivfpq", jobs=2)
    assert report.rows == ROWS - 50
    assert digests(copy) == undisturbed["ivfpq"]


def test_a_parent_that_is_killed_leaves_no_process_at_work(copy, undisturbed):
    assert kill_at(copy, "ivfflat", "add", 2, jobs=2) == -signal.SIGKILL
    deadline = time.monotonic() + 20
    while workers_on(copy) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not workers_on(copy)
    report, stages = go_on(copy, "ivfflat", jobs=2)
    assert report.resumed and "train" not in stages
    assert digests(copy) == undisturbed["ivfflat"]


def workers_on(path):
    """Processes that have a file of a collection open or mapped, but for this one."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            maps = Path(f"/proc/{pid}/maps").read_text()
        except OSError:
            continue
        if int(pid) != os.getpid() and str(path) in maps:
            found.append(pid)
    return found


def test_a_worker_that_dies_is_one_clear_error_and_its_part_is_filled_by_the_next_run(copy, undisturbed, monkeypatch):
    started = part_worker._started

    def dying(threads):
        process = started(threads)
        process.kill()
        return process

    with monkeypatch.context() as patched:
        patched.setattr(part_worker, "_started", dying)
        with pytest.raises(part_worker.PartError, match="fewer --jobs"):
            go_on(copy, "ivfpq", jobs=2)
    report, _ = go_on(copy, "ivfpq", jobs=2)
    assert report.resumed
    assert digests(copy) == undisturbed["ivfpq"]


LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
import clipsearch
from clipsearch.errors import StorageError
from clipsearch.flows import measuring
from clipsearch.index import costs, tuning
costs.PART_ROWS = 900
measuring.QUERIES = {"text": 10, "image": 10}
tuning.NPROBES, tuning.REFINES = (32,), (20,)
collection = clipsearch.open(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    collection.build_index(sys.argv[2])
except StorageError as problem:
    print(problem)
    sys.exit(7)
"""


@pytest.mark.parametrize("limit", [10_000, 60_000, 200_000])
def test_a_disk_that_is_full_is_said_in_words_and_the_next_run_goes_on(copy, undisturbed, limit):
    """A file may not grow beyond a limit: that ends the trained file, a part, or the joined lists."""
    done = subprocess.run([sys.executable, "-c", LIMITED, str(copy), "ivfflat", str(limit)], capture_output=True)
    assert done.returncode == 7, done.stderr.decode()
    assert b"could not be written" in done.stdout
    assert not [name for name in os.listdir(copy / "index") if ".tmp-" in name]
    go_on(copy, "ivfflat")
    assert digests(copy) == undisturbed["ivfflat"]


def test_a_disk_too_small_is_refused_with_figures_before_anything_begins(copy, monkeypatch):
    usage = shutil.disk_usage(copy)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**5))
    with pytest.raises(InputError, match=r"takes about \d+ MB of disk; \d MB are free"):
        go_on(copy, "ivfpq")


def test_a_recipe_given_by_name_is_held_to_the_memory_too(copy):
    with pytest.raises(InputError, match=r"takes about .* to build; the memory budget is 1 MB.\nGive --memory"):
        go_on(copy, recipe=replace(load_recipe("ivfflat-1m"), nlist=16), memory_bytes=10**6)


def test_a_containers_limit_counts_as_memory(monkeypatch):
    free = build_run.available_memory()
    figures = {"/sys/fs/cgroup/memory.max": 3 * 10**9, "/sys/fs/cgroup/memory.current": 10**9}
    monkeypatch.setattr(build_run, "_number", figures.get)
    assert build_run.available_memory() == min(free, 2 * 10**9) or free < 2 * 10**9


@pytest.mark.slow
def test_builds_killed_thirty_times_at_random_all_come_to_the_same_index(photos, undisturbed, tmp_path):
    rng = np.random.default_rng(0)
    for number in range(10):
        copy = shutil.copytree(photos.collection.path, tmp_path / str(number))
        for _ in range(3):
            kill_at(copy, "ivfpq", "clock", rng.uniform(0.3, 6.0), jobs=1 + number % 2)
        go_on(copy, "ivfpq")
        assert digests(copy) == undisturbed["ivfpq"], number
        assert not leftovers(copy)
        shutil.rmtree(copy)
