"""What a build says beforehand that it takes of memory is more than it takes."""

import json
import subprocess
import sys

import pytest
import test_build
from synthetic import Synthetic

pytest.importorskip("faiss", reason="faiss is not installed")

# A build in a process of its own, which looks at its own memory all the while.
BUILD = """
import json, re, sys, threading, time
import clipsearch
from clipsearch.flows import measuring
from clipsearch.flows.index_files import read_record
from clipsearch.index import costs
path, index_type, part_rows = sys.argv[1:]
costs.PART_ROWS = int(part_rows)
measuring.QUERIES = {"text": 50, "image": 50}
anonymous, over = 0, threading.Event()
def status(entry):
    with open("/proc/self/status") as file:
        return int(re.search(rf"{entry}:\\s+(\\d+)", file.read())[1]) * 1024
def look():
    global anonymous
    while not over.wait(0.005):
        anonymous = max(anonymous, status("RssAnon"))
watch = threading.Thread(target=look)
watch.start()
clipsearch.open(path).build_index(index_type)
over.set()
watch.join()
record = read_record(path)
print(json.dumps({"anonymous": anonymous, "resident": status("VmHWM"),
                  "stated": costs.peak_bytes(record.recipe, record.rows), "disk": record.disk_bytes,
                  "stated_disk": costs.disk_bytes(record.recipe, record.rows)}))
"""
ROWS, DIM = 120_000, 256


@pytest.mark.slow
@pytest.mark.parametrize("index_type", ["ivfpq", "ivfflat"])
def test_memory_stays_below_what_was_stated(index_type, tmp_path):
    path = make(tmp_path / "photos")
    done = subprocess.run([sys.executable, "-c", BUILD, path, index_type, "40000"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["anonymous"] <= figures["resident"] <= figures["stated"], figures
    assert figures["stated"] <= 4 * figures["anonymous"], f"so much too high helps nobody: {figures}"
    assert figures["disk"] <= figures["stated_disk"], figures


def make(path):
    """A collection of rows of 256 numbers, which no encoder of the tests makes."""
    from clipsearch.store import Store, TextRow

    data = Synthetic(ROWS, DIM)
    store = Store.create(str(path), {"name": "synthetic", "fingerprint": "synthetic"}, DIM)
    with store.writer() as writer:
        writer.commit(texts=[TextRow(writer.new_ids(1)[0], None, "a", b"", row) for row in data.text_queries(100)])
        root = writer.root_id(b"/photos")
        for start in range(0, ROWS, 20_000):
            writer.commit(images=[test_build.image_row(writer, root, row) for row in data.base(start, start + 20_000)])
    return str(path)
