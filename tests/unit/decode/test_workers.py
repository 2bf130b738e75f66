"""The pool: order, bounds, and what a file costs that hangs, crashes or eats memory."""

import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from pictures import bad_images, encoded, make_photo, ref_of, scan_bomb, scene
from stand_ins import Plain, Unmakeable

from clipsearch.decode import DecodeLimits, DecodePool, DecodeRequest, Hashed, decode_query
from clipsearch.errors import ClipsearchError, QueryImageError
from clipsearch.types import Decoded, ImageRef, Skip

QUICK = DecodeLimits(seconds=1.0)


def children():
    """Return the ids of this process's children, zombies too."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        found |= {int(word) for word in (task / "children").read_text().split()}
    return found


@pytest.fixture(autouse=True)
def no_child_is_left():
    before = children()
    yield
    assert children() <= before


@pytest.fixture
def no_hang():
    """Let a test fail that would wait for ever."""

    def raise_(*_):
        raise TimeoutError("the pool waits for ever")

    before = signal.signal(signal.SIGALRM, raise_)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def photos(folder, colours):
    named = {"red": (250, 10, 10), "grey": (120, 120, 120), "blue": (10, 10, 240)}
    return [
        DecodeRequest(ref_of(make_photo(folder / f"{number:03}.png", named[colour], number)))
        for number, colour in enumerate(colours)
    ]


def outcome(result):
    return str(result.reason) if isinstance(result, Skip) else "ok"


def test_results_come_in_the_order_of_the_requests(tmp_path):
    requests = []
    for number in range(40):
        size = (700, 700) if number % 7 == 0 else (20, 20)
        path = make_photo(tmp_path / f"{number:03}.png", (5 * number, 100, 200), number, size)
        requests.append(DecodeRequest(ref_of(path)))
    with DecodePool(Plain(), workers=3, lookahead=8) as pool:
        results = list(pool.run(requests))
        again = list(pool.run(requests[:5]))
    assert [result.ref for result in results] == [request.ref for request in requests]
    for number, result in enumerate(results):
        assert result.pixels.reshape(-1, 3).mean(0) == pytest.approx([5 * number, 100, 200], abs=6)
        data = (tmp_path / f"{number:03}.png").read_bytes()
        assert result.content_hash == hashlib.sha256(data).digest()
    assert [result.ref for result in again] == [request.ref for request in requests[:5]]


@pytest.mark.parametrize(
    ("trouble", "reason", "detail"),
    [
        ("hang", "decode_timeout", "not decoded within 1 s"),  # by its own timer
        ("hang_in_c", "decode_timeout", "not decoded within 1 s"),
        ("stop", "decode_timeout", "no answer within 1 s"),  # no timer ends a process that is stopped
        ("leave", "decode_crash", "status 7: the library says goodbye"),
        ("killed", "decode_crash", "SIGKILL"),
        ("allocate", "decode_memory", "memory"),
        ("fail", "corrupt", "no pixels today"),
    ],
)
def test_a_file_that_goes_wrong_costs_that_file_only(tmp_path, no_hang, trouble, reason, detail):
    colours = ["grey", "blue", "red", "grey", "blue", "grey", "blue", "grey"]
    with DecodePool(Plain(trouble=trouble), workers=2, limits=QUICK) as pool:
        results = list(pool.run(photos(tmp_path, colours)))
    assert [outcome(result) for result in results] == [reason if colour == "red" else "ok" for colour in colours]
    assert results[2].path == b"002.png"
    assert detail in results[2].detail


def test_one_bad_file_at_any_place_leaves_all_others(tmp_path):
    for place in range(6):
        colours = ["grey"] * 6
        colours[place] = "red"
        with DecodePool(Plain(trouble="killed"), workers=1) as pool:
            results = list(pool.run(photos(tmp_path, colours)))
        assert [outcome(result) for result in results] == ["decode_crash" if c == "red" else "ok" for c in colours]


def test_noise_of_libraries_is_not_heard_and_does_not_block(tmp_path, capfd):
    with DecodePool(Plain(trouble="babble"), workers=1) as pool:
        results = list(pool.run(photos(tmp_path, ["red", "grey"])))
    assert [outcome(result) for result in results] == ["ok", "ok"]
    assert capfd.readouterr() == ("", "")


def test_a_worker_killed_from_outside_is_replaced(tmp_path):
    requests = photos(tmp_path, ["grey"] * 30)
    with DecodePool(Plain(), workers=1, lookahead=4) as pool:
        results = pool.run(requests)
        first = next(results)
        for child in children():
            os.kill(child, signal.SIGKILL)
        rest = list(results)
        assert isinstance(first, Decoded)
        assert len(rest) == 29
        assert sum(isinstance(result, Skip) for result in rest) <= 1
        for child in children():  # idle now
            os.kill(child, signal.SIGKILL)
        time.sleep(0.1)
        assert {outcome(result) for result in pool.run(requests)} == {"ok"}


def test_requests_are_pulled_no_further_than_the_lookahead(tmp_path):
    requests = photos(tmp_path, ["grey"] * 40)
    pulled = []

    def source():
        for request in requests:
            pulled.append(request)
            yield request

    with DecodePool(Plain(), workers=2, lookahead=5) as pool:
        results = pool.run(source())
        assert not pulled
        for done, _ in enumerate(results, start=1):
            assert len(pulled) <= done + 5 + 2
        assert done == 40


def test_a_run_that_is_left_early_leaves_no_child_and_the_pool_works_on(tmp_path):
    requests = photos(tmp_path, ["grey"] * 20)
    before = children()
    with DecodePool(Plain(), workers=2) as pool:
        results = pool.run(requests)
        next(results)
        assert children() > before
        results.close()
        assert children() == before
        assert len(list(pool.run(requests))) == 20


def test_an_error_in_the_loop_leaves_no_child(tmp_path):
    before = children()
    with pytest.raises(KeyError), DecodePool(Plain(), workers=2) as pool:
        for _ in pool.run(photos(tmp_path, ["grey"] * 20)):
            raise KeyError
    assert children() == before


def test_an_error_in_the_source_comes_through_and_leaves_no_child(tmp_path):
    def source():
        yield from photos(tmp_path, ["grey"])
        raise KeyError("source")

    with DecodePool(Plain(), workers=1) as pool, pytest.raises(KeyError):
        list(pool.run(source()))


def test_nothing_is_started_before_there_is_work():
    before = children()
    with DecodePool(Plain()) as pool:
        assert list(pool.run([])) == []
        assert children() == before


def test_a_closed_pool_and_a_second_run_are_refused(tmp_path):
    requests = photos(tmp_path, ["grey"] * 9)
    pool = DecodePool(Plain(), workers=1, lookahead=2)
    results = pool.run(requests)
    next(results)
    with pytest.raises(RuntimeError, match="running already"):
        next(pool.run(requests))
    pool.close()
    pool.close()
    with pytest.raises(RuntimeError, match="closed"):
        list(results)
    with pytest.raises(RuntimeError, match="closed"):
        pool.run(requests)


def test_preprocessing_that_cannot_be_made_is_an_error_and_not_a_skip_a_file(tmp_path):
    with DecodePool(Unmakeable(), workers=2) as pool, pytest.raises(ClipsearchError, match="cannot be made here"):
        list(pool.run(photos(tmp_path, ["grey"] * 3)))


ORPHANS = """
import sys, time, os
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from stand_ins import Plain
from pictures import ref_of
from clipsearch.decode import DecodePool, DecodeRequest, DecodeLimits
paths = sorted(Path(sys.argv[2]).glob("*.png"))
pool = DecodePool(Plain(trouble="hang"), workers=2, limits=DecodeLimits(seconds=300))
results = pool.run(DecodeRequest(ref_of(path)) for path in paths)
next(results)
tasks = [f"/proc/self/task/{task}/children" for task in os.listdir("/proc/self/task")]
print(*(open(task).read() for task in tasks), flush=True)
next(results)
"""


def test_workers_die_with_a_supervisor_that_is_killed(tmp_path):
    photos(tmp_path, ["grey", "red", "red", "grey"])
    command = [sys.executable, "-c", ORPHANS, str(Path(__file__).parent), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as supervisor:
        kids = [int(word) for word in supervisor.stdout.readline().split()]
        time.sleep(0.5)  # both have a hanging file in hand
        supervisor.kill()
    assert len(kids) == 2
    deadline = time.monotonic() + 5
    while any(running(kid) for kid in kids):
        assert time.monotonic() < deadline, "a worker outlived its supervisor"
        time.sleep(0.02)


def running(process_id):
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_workers_leave_ctrl_c_to_the_supervisor(tmp_path):
    requests = photos(tmp_path, ["grey"] * 10)
    with DecodePool(Plain(), workers=1, lookahead=3) as pool:
        results = pool.run(requests)
        next(results)
        for child in children():
            os.kill(child, signal.SIGINT)
            assert os.getpgid(child) != os.getpgid(0)
        assert {outcome(result) for result in results} == {"ok"}


def test_a_script_without_a_main_guard_works_from_a_folder_with_misleading_names(tmp_path):
    (tmp_path / "json.py").write_text("raise RuntimeError('wrong module')")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "script.py").write_text(
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from stand_ins import Plain\nfrom clipsearch.decode import decode_query\n"
        f"print(decode_query({str(make_photo(tmp_path / 'a.png', (1, 2, 3)))!r}, Plain()).shape)\n"
    )
    done = subprocess.run(
        [sys.executable, "run/script.py"], cwd=tmp_path, capture_output=True, text=True, env={**os.environ}
    )
    assert done.stdout.strip() == "(32, 32, 3)", done.stderr


def test_the_supervisor_loads_no_decoder():
    code = "import sys, clipsearch.decode; print({'PIL', 'pyarrow', 'click', 'pillow_heif'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


def test_a_worker_loads_little():
    code = (
        "import sys, clipsearch.decode.worker; print({'pyarrow', 'click', 'pillow_heif', 'torch'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


def test_any_name_is_read(tmp_path):
    picture = encoded(scene(), "PNG")
    requests = []
    for name in (
        b"\xff\xfe\x80.png",
        b"new\nline.png",
        b"tab\t'\"$(x).png",
        b"-n",
        "é€".encode(),
        b"x" * 251 + b".png",
    ):
        with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:
            file.write(picture)
        requests.append(DecodeRequest(ImageRef(os.fsencode(tmp_path), name, None, len(picture), 0, 0)))
    with DecodePool(Plain(), workers=1) as pool:
        results = list(pool.run(requests))
    assert [(outcome(result), result.ref.path) for result in results] == [("ok", r.ref.path) for r in requests]


def test_members_of_a_tar_are_read_in_place(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in ("a.png", "b.png"):
            data = encoded(scene() if name == "a.png" else scene().rotate(90), "PNG")
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    whole = (tmp_path / "a.tar").read_bytes()
    status = (tmp_path / "a.tar").stat()
    with tarfile.open(tmp_path / "a.tar") as tar:
        refs = [
            ImageRef(
                os.fsencode(tmp_path), b"a.tar", os.fsencode(m.name), m.size, status.st_mtime_ns, status.st_ctime_ns,
                m.offset_data,
            )
            for m in tar
        ]  # fmt: skip
    with DecodePool(Plain(), workers=1) as pool:
        results = list(pool.run(map(DecodeRequest, refs)))
        for ref, result in zip(refs, results, strict=True):
            part = whole[ref.offset : ref.offset + ref.size]
            assert result.content_hash == hashlib.sha256(part).digest()
        os.utime(tmp_path / "a.tar", ns=(1, 1))
        changed = next(pool.run([DecodeRequest(refs[0])]))
    assert (outcome(changed), changed.member) == ("changed_while_reading", b"a.png")


def test_files_that_cannot_be_read_say_why(tmp_path):
    make_photo(tmp_path / "large.png", (1, 2, 3))
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "empty.png").touch()
    expected = {
        b"gone.png": "vanished",
        b"pipe.png": "not_regular_file",
        b"folder.png": "not_regular_file",
        b"loop.png": "symlink_loop",
        b"large.png": "too_large_file",
        b"empty.png": "empty",
        b"n" * 300 + b".png": "path_too_long",
    }
    refs = [ImageRef(os.fsencode(tmp_path), name, None, 0, 0, 0) for name in expected]
    with DecodePool(Plain(), workers=1, limits=DecodeLimits(max_bytes=100)) as pool:
        results = list(pool.run(map(DecodeRequest, refs)))
        hashes = list(pool.run(DecodeRequest(ref, hash_only=True) for ref in refs))
    assert [outcome(result) for result in results] == list(expected.values())
    assert [outcome(result) for result in hashes] == [*list(expected.values())[:5], "ok", "path_too_long"]


def test_hashing_does_not_decode(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no picture at all" * 100_000)
    with DecodePool(Plain(), workers=1) as pool:
        (result,) = pool.run([DecodeRequest(ref_of(tmp_path / "a.jpg"), hash_only=True)])
    assert isinstance(result, Hashed)
    assert result.content_hash == hashlib.sha256(b"no picture at all" * 100_000).digest()


def test_a_query_picture_may_be_a_path_bytes_or_a_stream(tmp_path):
    path = make_photo(tmp_path / "a.png", (10, 200, 10))
    expected = decode_query(path, Plain())
    for source in (str(path), path.read_bytes(), io.BytesIO(path.read_bytes())):
        assert np.array_equal(decode_query(source, Plain()), expected)


def test_a_large_query_picture_passes_as_bytes():
    noise = np.random.default_rng(0).integers(0, 256, (2000, 2000, 3), np.uint8)
    from PIL import Image

    assert decode_query(encoded(Image.fromarray(noise), "BMP"), Plain()).shape == (32, 32, 3)


@pytest.mark.parametrize("content", [b"", b"a letter", scan_bomb(), None])
def test_a_query_picture_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "holi\nday.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(QueryImageError, match=r"day\.jpg") as caught:
        decode_query(path, Plain())
    assert len(str(caught.value).splitlines()) <= 3


def test_the_bad_image_set_is_judged_as_its_manifest_says(test_data):
    rows = list(bad_images(test_data))
    start = time.monotonic()
    with DecodePool(Plain(size=64)) as pool:
        results = list(pool.run(DecodeRequest(ref_of(path)) for _, path in rows))
    seconds = time.monotonic() - start
    found = [(row, outcome(result)) for (row, _), result in zip(rows, results, strict=True)]
    assert not [row["file"] for row, got in found if row["expected"] == "ok" and got != "ok"]
    assert not [row["file"] for row, got in found if row["expected"] == "skip" and got == "ok"]
    assert not [row["file"] for row, got in found if got in ("decode_crash", "decode_timeout", "decode_memory")]
    skips = [(row, got) for row, got in found if row["expected"] == "skip"]
    wrong = [(row["file"], row["reason"], got) for row, got in skips if got != row["reason"]]
    assert len(wrong) <= 0.02 * len(skips), wrong
    assert all(result.detail for result in results if isinstance(result, Skip))
    assert seconds < 60
    for (row, _), result in zip(rows, results, strict=True):
        if row["check"] == "not_blank":
            assert result.pixels.std() > 3, row["file"]
