"""A generator in its process: every way it can go wrong ends in a message, and the next picture is drawn."""

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from clipsearch.errors import ClipsearchError, GenerationError, InputError
from clipsearch.generate.base import Options, OutOfMemory, UnusablePicture
from clipsearch.generate.breaker import Breaker
from clipsearch.generate.gradient import GradientGenerator
from clipsearch.generate.process import Setup, WorkerEnded
from clipsearch.generate.service import WAITING, GeneratorService

SMALL = Options(width=64, height=64)
FAULTY = Setup("faulty_generator:FaultyGenerator", device="cpu-test")


@pytest.fixture
def service(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with GeneratorService(FAULTY) as made:
        yield made


def test_a_process_draws_what_the_generator_draws(service):
    drawn = service.draw("a red ball", 3, 5, SMALL, seconds=60)
    np.testing.assert_array_equal(drawn.pixels, GradientGenerator().generate("a red ball", 3, 5, SMALL))
    assert drawn.done == ()
    source = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    options = Options(width=64, height=64, source="0" * 64, strength=0.5)
    again = service.draw("print a red ball", 1, 5, options, source, seconds=60)
    np.testing.assert_array_equal(again.pixels, GradientGenerator().generate("print a red ball", 1, 5, options, source))


@pytest.mark.parametrize(
    ("prompt", "kind", "words"),
    [
        ("raise", GenerationError, "the model is upset"),
        ("kill", WorkerEnded, "killed"),
        ("exit", WorkerEnded, "status 7: last words"),
        ("black", UnusablePicture, "one colour"),
        ("wrong-size", GenerationError, "(1, 56, 64, 3)"),
        ("floats", GenerationError, "float32"),
        ("huge", GenerationError, ""),
        ("never", OutOfMemory, "never enough"),
    ],
)
def test_a_fault_is_a_short_message_and_the_next_picture_is_drawn(service, prompt, kind, words):
    with pytest.raises(kind) as caught:
        service.draw(prompt, 1, 0, SMALL, seconds=60)
    assert words in str(caught.value) and str(caught.value).count("\n") < 3
    assert service.draw("a red ball", 1, 0, SMALL, seconds=60).pixels.shape == (1, 64, 64, 3)


def test_a_generator_that_hangs_is_killed_at_its_deadline(service):
    service.draw("a red ball", 1, 0, SMALL, seconds=60)
    process = service._process._process
    start = time.monotonic()
    with pytest.raises(WorkerEnded, match="within 1 s"):
        service.draw("hang", 1, 0, SMALL, seconds=1)
    assert time.monotonic() - start < 5 and process.poll() is not None


def test_short_memory_is_answered_with_less_and_told(service):
    assert service.draw("crowded", 3, 4, SMALL, seconds=60).done == ("one at a time",)
    np.testing.assert_array_equal(
        service.draw("crowded", 3, 4, SMALL, seconds=60).pixels, GradientGenerator().generate("crowded", 3, 4, SMALL)
    )
    large = service.draw("large", 2, 4, Options(width=512, height=320), seconds=60)
    assert large.done == ("one at a time", "256 x 160") and large.pixels.shape == (2, 160, 256, 3)
    assert service.draw("heavy", 1, 4, SMALL, seconds=60).done == ("offloaded",)


def test_numbers_that_went_wrong_are_tried_once_in_float32(service):
    assert service.draw("nan-until-fp32", 1, 0, SMALL, seconds=60).done == ("float32",)
    assert service.draw("a red ball", 1, 0, SMALL, seconds=60).done == ("float32",), "it has stayed so"


def test_a_source_shrinks_with_the_picture_where_memory_is_short(service):
    source = np.zeros((512, 512, 3), np.uint8)
    options = Options(width=512, height=512, source="0" * 64, strength=0.5)
    assert service.draw("large", 1, 0, options, source, seconds=60).pixels.shape == (1, 256, 256, 3)


def test_a_wrong_request_is_refused_at_the_door(service):
    for wrong in (
        {"prompt": " "},
        {"n": 0},
        {"n": 17},
        {"seed": -1},
        {"options": Options(width=65)},
        {"options": Options(height=1 << 20)},
        {"options": Options(steps=0)},
        {"options": Options(strength=0.5)},
        {"options": Options(source="0", strength=0.0)},
    ):
        with pytest.raises(InputError):
            service.draw(**{"prompt": "x", "n": 1, "seed": 0, "options": SMALL, **wrong})
    assert service._process is None


def test_one_job_at_a_time_and_too_many_are_refused(service):
    done, refused = [], []

    def draw(prompt, seconds):
        try:
            done.append(service.draw(prompt, 1, 0, SMALL, seconds=seconds))
        except ClipsearchError as problem:
            refused.append(str(problem))

    threads = [threading.Thread(target=draw, args=("hang", 4))]
    threads[0].start()
    while service._process is None:
        time.sleep(0.01)
    threads += [threading.Thread(target=draw, args=("a red ball", 30)) for _ in range(WAITING + 2)]
    for thread in threads[1:]:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == WAITING
    assert sum("wait already" in text for text in refused) == 2 and sum("within 4 s" in text for text in refused) == 1


def test_the_device_is_shared_by_processes(service):
    holder = (
        "import sys, time; from filelock import FileLock; lock = FileLock(sys.argv[1]); lock.acquire(); "
        "print(flush=True); time.sleep(60)"
    )
    from clipsearch.generate.service import _lock_folder

    place = os.path.join(str(_lock_folder()), "cpu-test.lock")
    with subprocess.Popen([sys.executable, "-c", holder, place], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        try:
            with pytest.raises(GenerationError, match="busy"):
                service.draw("a red ball", 1, 0, SMALL, seconds=0.3)
        finally:
            other.kill()
    assert len(service.draw("a red ball", 1, 0, SMALL, seconds=60).pixels) == 1


def test_closing_ends_the_process(service):
    service.draw("a red ball", 1, 0, SMALL, seconds=60)
    process = service._process._process
    service.close()
    assert process.poll() is not None
    with pytest.raises(GenerationError, match="closed"):
        service.draw("a red ball", 1, 0, SMALL, seconds=60)


def test_a_process_ends_with_its_supervisor(tmp_path):
    code = (
        "from clipsearch.generate.process import GeneratorProcess, Setup; import os\n"
        "from clipsearch.generate.base import Options\n"
        "p = GeneratorProcess(Setup('clipsearch.generate.gradient:GradientGenerator'))\n"
        "p.ask('x', 1, 0, Options(64, 64), None, 60); print(p._process.pid, flush=True); os._exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    end = time.monotonic() + 10
    while os.path.exists(f"/proc/{done.stdout.strip()}") and time.monotonic() < end:
        with open(f"/proc/{done.stdout.strip()}/stat") as file:
            if file.read().rsplit(")", 1)[1].split()[0] == "Z":
                return
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{done.stdout.strip()}")


def test_three_failures_open_the_breaker_and_a_success_closes_it(tmp_path, monkeypatch):
    path = str(tmp_path / "generated" / "breaker.json")
    for _ in range(3):
        Breaker(path).check()
        Breaker(path).failed()
    with pytest.raises(GenerationError, match="failed 3 times") as caught:
        Breaker(path).check()
    assert str(caught.value).count("\n") < 3
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 301)
    Breaker(path).check()
    monkeypatch.undo()
    Breaker(path).worked()
    Breaker(path).check()
    (tmp_path / "generated" / "breaker.json").write_text("{")
    Breaker(path).check()


def test_the_service_counts_its_failures_and_not_wrong_requests(service):
    with pytest.raises(GenerationError):
        service.draw("raise", 1, 0, SMALL, seconds=60)
    with pytest.raises(InputError):
        service.draw("", 1, 0, SMALL, seconds=60)
    assert len(service.breaker._recent()) == 1
    service.draw("a red ball", 1, 0, SMALL, seconds=60)
    assert service.breaker._recent() == []
