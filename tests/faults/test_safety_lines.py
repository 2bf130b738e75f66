"""Each line that keeps a promise is missed by a test when it is taken out.

A copy of the package gets one change, and the tests named beside it are run over it: at least one must fail. The time limit of a
file is not among them: it is kept twice, by the worker and by its supervisor, and taking out one changes nothing.
"""

# ruff: noqa: E501 (lines of the package stand here as they are there)

import os
import subprocess
import sys
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

LINES = [
    Line("a file is synced", "store/files.py", "        os.fsync(fd)\n    finally:\n        os.close(fd)\n\n\ndef sync_dir",
         "    finally:\n        os.close(fd)\n\n\ndef sync_dir", f"{CRASH} -k synced"),
    Line("its folder is synced", "store/files.py", "os.O_DIRECTORY | os.O_CLOEXEC)\n    try:\n        os.fsync(fd)",
         "os.O_DIRECTORY | os.O_CLOEXEC)\n    try:\n        pass", f"{CRASH} -k synced"),
    Line("shards' folders before the manifest", "store/writer.py", "        for folder in sorted(folders):\n"
         "            sync_dir(os.path.join(self.path, folder))\n", "", f"{CRASH} -k synced"),
    Line("a manifest's name is taken once", "store/files.py", "            os.link(tmp, path)", "            os.replace(tmp, path)",
         f"{CRASH} -k overwritten"),
    Line("leftovers are removed", "store/naming.py", "                os.unlink(os.path.join(where, name))",
         "                pass", f"{CRASH} -k makers"),
    Line("the lock", "store/files.py", "            lock.acquire(timeout=-1 if wait else 0)", "            pass",
         "tests/unit/store/test_store_lock.py -k 'same_process'"),
    Line("the manifest's digest", "store/manifest.py", "    if sha256(data) != digest:", "    if False:",
         f"{READER} -k pointer_or_the_manifest"),
    Line("the finite check of a run", "flows/ingest.py", "and bool(np.isfinite(image.embedding).all())", "",
         "tests/unit/flows/test_non_finite.py"),
    Line("the finite check of the store", "store/plan.py", "    if bad:\n", "    if False:\n",
         "tests/unit/store/test_store_commit.py -k does_not_fit"),
    Line("an empty root deletes nothing", "flows/plan.py", "    if plan.gone and not images:", "    if False:",
         f"{UPDATES} -k empty_root"),
    Line("an unreadable folder shields its rows", "flows/plan.py", " and not _is_below(path, shielded)", "",
         f"{SPECIAL} -k unreadable_folder"),
    Line("the allow-list of formats", "decode/image.py", "Image.open(io.BytesIO(data), formats=[kind])",
         "Image.open(io.BytesIO(data))", f"{IMAGE} tests/faults/test_static_rules.py"),
    Line("what the bytes begin with", "decode/image.py", "    if kind is None:", "    if False:", f"{IMAGE} -k unidentified"),
    Line("the pixel limit", "decode/image.py", "    if width * height > limits.max_pixels:", "    if False:", f"{IMAGE} -k bomb"),
    Line("the limit of scans", "decode/image.py", " > limits.max_scans:\n        raise", " > 1 << 40:\n        raise",
         f"{IMAGE} -k very_many_scans"),
    Line("pixels before metadata", "decode/image.py", "    image.load()  # first frame only, of an animation\n"
         "    turn = read_orientation(image)\n", "    turn = read_orientation(image)\n    image.load()\n", f"{IMAGE}"),
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
    """Copy the package, its tests and its settings by links, with one file changed."""
    for name in ("clipsearch", "tests", "pyproject.toml"):
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
@pytest.mark.parametrize("line", LINES, ids=lambda line: line.name)
def test_taking_a_safety_line_out_fails_a_test(tmp_path, line):
    import shlex

    mutated(tmp_path, line)
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--basetemp", str(tmp_path / "t")]
    done = subprocess.run(
        [*command, *shlex.split(line.tests)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 1, f"without the line {line.name!r} nothing failed:\n{done.stdout[-2000:]}"
