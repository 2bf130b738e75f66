"""Let index runs fail at their mutating system calls: ``python injecting.py FOLDER FILES STEP``; prints JSON.

strace lists the calls of one run, then lets the n-th of another run kill the process, or fail with ENOSPC or EIO, for
every n (every STEP-th, the three kinds in turn, where STEP is above 1). It counts each system call by itself, so the
n-th call of a run is asked for as, say, the third fsync. After each the collection must hold what was
acknowledged, and one more run must complete it and leave nothing behind. One process imports everything once and forks.
"""

import json
import os
import re
import select
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from faults.runs import check, leftovers, names, pictures  # noqa: E402

import clipsearch  # noqa: E402
from clipsearch.errors import ClipsearchError  # noqa: E402
from clipsearch.flows import ingest, run  # noqa: E402
from clipsearch.store import parquet  # noqa: E402, F401 (once, before all the forks)

MUTATING = (
    "write,pwrite64,writev,fsync,fdatasync,ftruncate,rename,renameat,renameat2,"
    "link,linkat,unlink,unlinkat,mkdir,mkdirat"
)
NAMING = re.compile(r'(?:rename|link)(?:at2?)?\((?:AT_FDCWD[^,]*, )?"([^"]+)", (?:AT_FDCWD[^,]*, )?"([^"]+)"')
KINDS = {"kill": "signal=KILL", "ENOSPC": "error=ENOSPC", "EIO": "error=EIO"}


def index(collection: Path, photos: Path, told: socket.socket) -> None:
    """Index, and name each row on a socket (which is no mutating call) once it is safe."""
    real = run.commit

    def commit(state):
        places = [row.path for row, _ in state.pending]
        real(state)
        if places:
            told.sendall(b"".join(b"safe %b\n" % place for place in places))

    run.commit = ingest.commit = commit
    with clipsearch.open(collection) as opened:
        opened.index(photos, workers=1, batch_size=8, commit_rows=50)


def one_run(collection: Path, photos: Path, trace: list[str] | None = None) -> tuple[int, set[str]]:
    """Run in a process of its own, below strace where options for it are given; returns its status and what it told."""
    ours, theirs = socket.socketpair()
    waiting, go = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            ours.close()
            os.close(go)
            os.read(waiting, 1)  # until strace is there
            index(collection, photos, theirs)
            code = 0
        except (ClipsearchError, OSError) as problem:
            code = 3 if isinstance(problem, ClipsearchError) and "Everything committed" in str(problem) else 4
            theirs.sendall(f"problem {type(problem).__name__}: {problem}\n".encode())
        finally:
            os._exit(code)
    theirs.close()
    os.close(waiting)
    tracer = None
    if trace is not None:
        tracer = subprocess.Popen(["strace", "-p", str(child), *trace], stderr=subprocess.PIPE, text=True)
        assert tracer.stderr is not None and "attached" in tracer.stderr.readline()
    os.close(go)
    said = b""
    while select.select([ours], [], [], 300)[0] and (piece := ours.recv(1 << 16)):
        said += piece
    ours.close()
    _, status = os.waitpid(child, 0)
    if tracer is not None:
        tracer.communicate(timeout=60)
    return status, {line.removeprefix("safe ") for line in said.decode().splitlines() if line.startswith("safe ")}


def fresh(folder: Path, name: str) -> Path:
    clipsearch.create(folder / name, model="hashing").close()
    return folder / name


def traced(folder: Path, photos: Path) -> list[str]:
    """Return the mutating calls of one run that nothing disturbs, with the paths of descriptors, and the tellings."""
    log = folder / "trace"
    collection = fresh(folder, "traced")
    status, _ = one_run(collection, photos, ["-y", "-s", "6", "-o", str(log), "-e", f"trace={MUTATING},sendto"])
    assert status == 0 and leftovers(collection) == []
    return log.read_text().splitlines()


def numbered(calls: list[str]) -> list[tuple[str, int]]:
    """Return each mutating call of a run as its name and which of that name it is, from 1."""
    seen: Counter[str] = Counter()
    found = []
    for call in calls:
        name = call.partition("(")[0]
        if name in MUTATING.split(","):
            seen[name] += 1
            found.append((name, seen[name]))
    return found


def violations(calls: list[str], collection: str) -> tuple[list[str], int]:
    """Return where a name was given to a file that was not synced, or a folder was not synced in time; and all names.

    A folder must be synced before a manifest or CURRENT names what was put into it, and before anything is told.
    """
    dirty: set[str] = set()  # written, not synced
    unsynced: set[str] = set()  # folders with a new name in them
    wrong: list[str] = []
    named = 0
    for call in calls:
        file = re.match(r"(?:write|pwrite64|writev|ftruncate)\(\d+<([^>]+)>", call)
        synced = re.match(r"f(?:data)?sync\(\d+<([^>]+)>", call)
        moved = NAMING.match(call)
        if file:
            dirty.add(file[1])
        elif synced:
            dirty.discard(synced[1])
            unsynced.discard(synced[1])
        elif moved and moved[2].startswith(collection) and ".lock-holder" not in moved[2]:
            named += 1
            source, target = moved[1], moved[2]
            if source in dirty:
                wrong.append(f"not synced before it got its name: {target}")
            is_pointer = os.path.basename(target) == "CURRENT" or "/manifests/" in target
            if is_pointer and unsynced - {os.path.dirname(target)}:
                wrong.append(f"{target} names files in folders that are not synced: {unsynced}")
            if os.path.basename(target) == "CURRENT" and os.path.join(os.path.dirname(target), "manifests") in unsynced:
                wrong.append(f"{target} before its manifest was safe")
            unsynced.add(os.path.dirname(target))
        elif call.startswith("sendto") and '"safe ' in call and unsynced:
            wrong.append(f"told before it was safe: {unsynced}")
    return wrong + [f"never synced: {folder}" for folder in unsynced], named


def main(folder: Path, files: int, step: int) -> None:
    photos = pictures(folder / "photos", files)
    expected = sorted(file.name for file in photos.iterdir())
    (photos / "broken.jpg").write_bytes(b"no picture")  # so that a list of skipped files is written too
    calls = traced(folder, photos)
    wrong, named = violations(calls, str(folder / "traced"))
    assert not wrong and named >= 9, (named, wrong)
    each = numbered(calls)
    seen: Counter[str] = Counter()
    kinds = list(KINDS)
    points = [
        (n, kind) for n in range(1, len(each) + 1, step) for kind in (kinds if step == 1 else [kinds[n // step % 3]])
    ]
    for n, kind in points:
        collection = fresh(folder, f"{n}-{kind}")
        name, ordinal = each[n - 1]
        how = ["-o", "/dev/null", "-e", f"trace={name}", "-e", f"inject={name}:{KINDS[kind]}:when={ordinal}"]
        status, acknowledged = one_run(collection, photos, how)
        code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        # A kill that does not come: this run made one call less of that name, as its work was parted otherwise.
        assert code in ((-9, 0) if kind == "kill" else (0, 3)), (n, name, kind, code)
        seen[f"{kind}: {'stopped' if code else 'went on'}"] += 1
        check(collection, acknowledged)
        status, _ = one_run(collection, photos)
        assert status == 0 and names(collection) == expected, (n, kind)
        assert leftovers(collection) == [], (n, kind)
        check(collection, set(expected))
    print(json.dumps({"calls": len(each), "renames": named, "violations": 0, "points": len(points), **seen}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:4]))
