"""Each line that keeps a promise is missed by a test when it is taken out.

A copy of the package gets one change, and the tests named beside it are run over it: at least one must fail. They are the
few that look at that line, so that all of it takes minutes. Lines that are there twice, as the time limit of a file, which
its worker keeps and the worker's supervisor, are taken out one at a time.
"""

# ruff: noqa: E501 (lines of the package stand here as they are there)

import os
import re
import shlex
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Line:
    """A safety line: where it is, the text and what takes its place, and tests of which one must fail."""

    name: str
    file: str
    text: str
    instead: str
    tests: str


CRASH, FOLDER = "tests/unit/store/test_store_crash.py", "tests/unit/scan/test_folder.py"
WORKERS, IMAGE = "tests/unit/decode/test_workers.py", "tests/unit/decode/test_image.py"
READER, UPDATES = "tests/unit/store/test_store_reader.py", "tests/end_to_end/test_index_updates.py"
SPECIAL, LEFT_OUT = "tests/end_to_end/test_special_files.py", "tests/end_to_end/test_left_out.py"
STATIC, VERIFY = "tests/faults/test_static_rules.py", "tests/unit/flows/test_verify.py"

LINES = [
    Line("a file is synced", "store/files.py", "        os.fsync(fd)\n    finally:\n        os.close(fd)\n\n\ndef sync_dir",
         "    finally:\n        os.close(fd)\n\n\ndef sync_dir", f"{CRASH} -k synced"),
    Line("its folder is synced", "store/files.py", "os.O_DIRECTORY | os.O_CLOEXEC)\n    try:\n        os.fsync(fd)",
         "os.O_DIRECTORY | os.O_CLOEXEC)\n    try:\n        pass", f"{CRASH} -k synced"),
    Line("shards' folders before the manifest", "store/writer.py", "        for folder in sorted(folders):\n"
         "            sync_dir(os.path.join(self.path, folder))\n", "", f"{CRASH} -k synced"),
    Line("the manifest's folder before CURRENT", "store/manifest.py", "    sync_dir(folder)\n", "", f"{CRASH} -k synced"),
    Line("CURRENT's own folder", "store/manifest.py", "    sync_dir(path)\n", "", f"{CRASH} -k synced"),
    Line("a manifest's name is taken once", "store/files.py", "            os.link(tmp, path)", "            os.replace(tmp, path)",
         f"{CRASH} -k overwritten"),
    Line("leftovers are removed", "store/naming.py", "                os.unlink(os.path.join(where, name))",
         "                pass", f"{CRASH} -k makers"),
    Line("the lock", "store/files.py", "            lock.acquire(timeout=-1 if wait is True else float(wait))", "            pass",
         "tests/unit/store/test_store_lock.py -k 'same_process'"),
    Line("the manifest's digest", "store/manifest.py", "    if sha256(data) != digest:", "    if False:",
         f"{READER} -k pointer_or_the_manifest"),
    Line("a shard's digest", "store/shard.py", "    if sha256(data) != entry.sha256:", "    if False:",
         f"{READER} -k never_read_from_a_shard"),
    Line("a sidecar's digest", "store/stamps.py", "        if sha256_of_file(where) != digest:", "        if False:",
         f"{READER} -k changed_sidecar_is_noticed"),
    Line("an index's digest before faiss reads it", "flows/index_files.py",
         "    if not is_whole(snapshot.stamps, folder, file):", "    if False:",
         "tests/end_to_end/test_build.py -k 'damaged_index_never and flipped'"),
    Line("the digests of verify", "store/checking.py", 'return None if sha256_of_file(where) == digest else "its digest differs"',
         "return None", f"{VERIFY} -k flipped_emptied"),
    Line("the digests of verify, of shards", "store/checking.py", "    if sha256(data) != entry.sha256:", "    if False:",
         f"{VERIFY} -k no_checksum_of_its_pages"),
    Line("the fingerprint of the encoder", "flows/identity.py", " and value != record[what]:", " and False:",
         "tests/unit/test_collection.py -k another_encoder"),
    Line("the finite check of a run", "flows/ingest.py", "and bool(np.isfinite(image.embedding).all())", "",
         "tests/unit/flows/test_non_finite.py"),
    Line("the finite check of the store", "store/plan.py", "    if bad:\n", "    if False:\n",
         "tests/unit/store/test_store_commit.py -k does_not_fit"),
    Line("an empty root deletes nothing", "flows/plan.py", "    if plan.gone and not images and not prune_empty:", "    if False:",
         f"{UPDATES} -k empty_root"),
    Line("an empty folder deletes nothing", "flows/plan.py", "    if plan.gone and not prune_empty:", "    if False:",
         "tests/end_to_end/test_deserted.py -k keeps_its_pictures"),
    Line("an unreadable folder shields its rows", "flows/plan.py", " and not _is_below(path, shielded)", "",
         f"{SPECIAL} -k unreadable_folder"),
    Line("the allow-list of formats", "decode/image.py", "Image.open(io.BytesIO(data), formats=[kind])",
         "Image.open(io.BytesIO(data))", f"{STATIC} -k allowed_decoder"),
    Line("what the bytes begin with", "decode/image.py", "    if kind is None:", "    if False:", f"{IMAGE} -k unidentified"),
    Line("the pixel limit", "decode/image.py", "    if width * height > limits.max_pixels:", "    if False:", f"{IMAGE} -k bomb"),
    Line("the limit of scans", "decode/image.py", " > limits.max_scans:\n        raise", " > 1 << 40:\n        raise",
         f"{IMAGE} -k very_many_scans"),
    Line("pixels before metadata", "decode/image.py", "    image.load()  # first frame only, of an animation\n"
         "    turn = read_orientation(image)\n", "    turn = read_orientation(image)\n    image.load()\n", f"{IMAGE} -k all_eight_orientations"),
    Line("the time limit, kept by the worker", "decode/worker.py",
         "        signal.setitimer(signal.ITIMER_REAL, self.limits.seconds)\n", "", f"{WORKERS} -k 'goes_wrong and hang_in_c'"),
    Line("the time limit, kept by the supervisor", "decode/workers.py",
         "            if (seconds := worker.seconds_left()) is not None and seconds <= 0:", "            if False:",
         f"{WORKERS} -k 'goes_wrong and stop'"),
    Line("the limit of a file's bytes", "decode/read.py", "            if size > max_bytes:", "            if False:",
         f"{WORKERS} -k cannot_be_read"),
    Line("out of memory halves the batch", "embed/runtime/memory.py", "        if is_memory(problem):", "        if False:",
         "tests/unit/embed/test_memory.py -k undivided"),
    Line("the memory limit", "decode/worker.py", "        _limit_memory(self.limits.memory_bytes)\n", "",
         f"{WORKERS} -k 'goes_wrong and allocate'"),
    Line("a pipe is not waited for", "decode/read.py", " | os.O_NONBLOCK", "", f"{WORKERS} -k cannot_be_read"),
    Line("only regular files are read", "decode/read.py", "            if not stat.S_ISREG(before.st_mode):",
         "            if False:", f"{WORKERS} -k cannot_be_read"),
    Line("the same bytes are hashed and decoded", "decode/read.py", "            if ref.member is not None and _times(before)"
         " != (ref.mtime_ns, ref.ctime_ns):", "            if False:", f"{WORKERS} -k members_of_a_tar"),
    Line("loops of links end", "scan/folder.py", "            elif any(target == above.identity for above in stack):",
         "            elif False:", f"{FOLDER} -k loops_end"),
    Line("workers die with their supervisor", "decode/worker.py", "    _die_with_supervisor()\n    with", "    with",
         f"{WORKERS} -k supervisor_that_is_killed"),
    Line("an interrupt commits what is finished", "flows/ingest.py", "    except KeyboardInterrupt:\n        commit(run)\n",
         "    except KeyboardInterrupt:\n", f"{UPDATES} -k interrupted_run_keeps"),
    Line("a changed broken file is tried again", "flows/left_out.py", "known.stamp == (ref.size, ref.mtime_ns, ref.ctime_ns)",
         "known.stamp is not None", f"{LEFT_OUT} -k changed_is_tried"),
]  # fmt: skip


def mutated(folder: Path, line: Line) -> None:
    """Copy the package, what its tests need and its settings by links, with one file changed."""
    for name in ("clipsearch", "tests", "benchmarks", "pyproject.toml"):
        subprocess.run(["cp", "-rs", str(ROOT / name), str(folder)], check=True)
    file = folder / "clipsearch" / line.file
    text = file.read_text(encoding="utf-8")
    assert text.count(line.text) == 1, f"{line.file} does not hold the line of {line.name!r} once"
    file.unlink()
    file.write_text(text.replace(line.text, line.instead), encoding="utf-8")


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.name)
def test_every_safety_line_is_where_this_file_says(line):
    assert (ROOT / "clipsearch" / line.file).read_text(encoding="utf-8").count(line.text) == 1


@pytest.mark.slow
def test_taking_out_any_safety_line_fails_a_test(tmp_path, capsys):
    start = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        seen = list(pool.map(lambda n: failing(tmp_path / str(n), LINES[n]), range(len(LINES))))
    with capsys.disabled():
        print()
        for line, (test, _) in zip(LINES, seen, strict=True):
            print(f"{line.name:45} {test or 'NOTHING FAILED'}")
        print(f"{len(LINES)} lines in {time.monotonic() - start:.0f} s")
    survived = [f"{line.name}:\n{said[-2000:]}" for line, (test, said) in zip(LINES, seen, strict=True) if not test]
    assert not survived, "without these lines no test failed:\n" + "\n".join(survived)


def failing(folder: Path, line: Line) -> tuple[str | None, str]:
    """Return the test that fails without a line, or None, and what pytest said."""
    folder.mkdir()
    mutated(folder, line)
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--basetemp", str(folder / "t")]
    done = subprocess.run(
        [*command, *shlex.split(line.tests)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    failed = re.search(r"^(?:FAILED|ERROR) tests/(\S+\.py::.*?)(?: - |$)", done.stdout, re.MULTILINE)
    return failed[1] if failed and done.returncode == 1 else None, done.stdout
