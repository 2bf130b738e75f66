import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from store_rows import add_images, live_ids, new_store
from test_store_reader import REPOSITORY

from clipsearch.errors import LockedError
from clipsearch.store import Store

HOLDER = """
import sys, time
sys.path.insert(0, sys.argv[2])
from clipsearch.store import Store
with Store.open(sys.argv[1]).writer():
    print("held", flush=True)
    time.sleep(60)
"""


def holder_of(store: Store) -> subprocess.Popen:
    child = subprocess.Popen([sys.executable, "-c", HOLDER, store.path, REPOSITORY], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    return child


def end(child: subprocess.Popen) -> None:
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()


def test_a_second_writer_is_told_who_holds_the_lock_and_free_again_when_that_one_dies(tmp_path):
    store = new_store(tmp_path / "a", n=1)
    child = holder_of(store)
    start = time.monotonic()
    with pytest.raises(LockedError, match=f"process {child.pid}") as error, store.writer():
        pass
    assert time.monotonic() - start < 2
    assert error.value.exit_code == 11
    assert "--wait" in str(error.value)
    assert live_ids(store) == [0]  # readers are not kept out
    end(child)
    with store.writer() as writer:
        add_images(writer, 1)
    assert live_ids(store) == [0, 1]


def test_a_waiting_writer_goes_on_when_the_lock_is_free(tmp_path):
    store = new_store(tmp_path / "a", n=1)
    child = holder_of(store)
    killer = threading.Timer(0.3, lambda: end(child))
    killer.start()
    with store.writer(wait=True) as writer:
        assert add_images(writer, 1) == range(1, 2)
    killer.join()


@pytest.mark.parametrize("wait", [False, True])
def test_a_second_writer_in_the_same_process_is_refused_too(tmp_path, wait):
    store = new_store(tmp_path / "a", n=1)
    with store.writer() as writer:
        with pytest.raises(LockedError, match="this process"), Store.open(store.path).writer(wait=wait):
            pass
        add_images(writer, 1)
    with pytest.raises(ValueError, match="closed"):
        writer.commit()
    with store.writer():
        pass
    assert not os.path.exists(os.path.join(store.path, ".lock-holder"))


def test_the_lock_is_given_back_after_an_error(tmp_path):
    store = new_store(tmp_path / "a")
    with pytest.raises(RuntimeError, match="mine"), store.writer():
        raise RuntimeError("mine")
    with store.writer() as writer:
        add_images(writer, 1)
