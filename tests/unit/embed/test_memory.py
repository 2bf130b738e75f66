"""Too little memory for a batch: it is halved down to one row, and the answer is the same."""

from types import SimpleNamespace

import numpy as np
import pytest

from clipsearch.embed import load_encoder
from clipsearch.embed.runtime.memory import in_parts, is_memory
from clipsearch.embed.runtime.onnx import OnnxRuntime, Session
from clipsearch.embed.runtime.openvino import _Compiled
from clipsearch.errors import InputError

# As ONNX Runtime 1.31, OpenVINO 2026.3 and torch 2.15 said it under a limit of address space, and CUDA's libraries do.
SAID = [
    "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running MatMul node. Name:'' Status Message: "
    "bfc_arena.cc:360 AllocateRawInternal Failed to allocate memory for requested buffer of size 3200000000",
    "[CPU] MatMul node with name 'c' Check 'ptr' failed at cpu_memory.cpp:257:\nFailed to allocate 3200000000 bytes",
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "3200000000 bytes. Error code 12 (Cannot allocate memory)",
    "CUDA out of memory. Tried to allocate 20.00 GiB",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "std::bad_alloc",
]


class Scarce:
    """Runs ``answer`` where there is memory for so many rows; notes what was tried."""

    def __init__(self, limit, answer, problem=None):
        self.limit, self.answer, self.tried = limit, answer, []
        self.problem = problem or RuntimeError(SAID[0])

    def __call__(self, inputs):
        self.tried.append(len(inputs[0]))
        if len(inputs[0]) > self.limit:
            raise self.problem
        return self.answer(inputs)


def batches(size, device="cuda:1"):
    return SimpleNamespace(batch_size=size, device=device)


@pytest.mark.parametrize("said", SAID)
def test_the_words_of_every_runtime_are_known(said):
    class Fail(Exception):
        """ONNX Runtime's own is no RuntimeError either."""

    assert is_memory(RuntimeError(said)) and is_memory(Fail(said))


def test_other_troubles_are_none_of_memory():
    assert is_memory(MemoryError())
    for other in (RuntimeError("shapes do not match"), ValueError("memory layout"), KeyError("x")):
        assert not is_memory(other)
        with pytest.raises(type(other)):
            in_parts(batches(4), Scarce(0, None, other), [np.zeros((3, 1))])


def test_torchs_own_error_is_known():
    torch = pytest.importorskip("torch")
    assert is_memory(torch.OutOfMemoryError("Allocation on device failed"))


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 16, 100])
@pytest.mark.parametrize("n", [1, 2, 7, 33])
def test_the_answer_is_that_of_the_undivided_batch_whatever_fits(n, limit):
    held, a, b = batches(16), np.arange(3 * n).reshape(n, 3), np.arange(n)
    run = Scarce(limit, lambda inputs: inputs[0] * 2.0 + inputs[1][:, None])
    np.testing.assert_array_equal(in_parts(held, run, [a, b]), a * 2.0 + b[:, None])
    assert 1 <= held.batch_size <= 16
    assert sum(size > limit for size in run.tried) <= 5
    run.tried.clear()
    in_parts(held, run, [a, b])
    assert max(run.tried) <= limit, "the smaller batch is remembered"


def test_what_was_tried_is_let_go_of_before_the_next_attempt():
    freed = []
    in_parts(batches(8), Scarce(2, lambda inputs: inputs[0]), [np.ones((8, 1))], lambda: freed.append(True))
    assert len(freed) == 2


@pytest.mark.parametrize("device", ["cpu", "cuda:1"])
def test_no_memory_for_a_single_row_is_told_in_three_lines(device):
    run = Scarce(0, None)
    with pytest.raises(InputError, match=f"Memory ran out on {device}") as caught:
        in_parts(batches(16, device), run, [np.ones((16, 1))])
    assert run.tried == [16, 8, 4, 2, 1]
    assert len(str(caught.value).splitlines()) == 3
    assert ("device 'cpu'" in str(caught.value)) == (device != "cpu")


def test_graphs_of_onnx_runtime_are_halved():
    runtime = OnnxRuntime()
    tower = Scarce(3, lambda inputs: inputs[0].astype(np.float32) * 2)
    pixels = np.arange(60, dtype=np.uint8).reshape(20, 3)
    np.testing.assert_array_equal(runtime.run(SimpleNamespace(run=tower), pixels), pixels * 2.0)
    assert tower.tried[:4] == [16, 8, 4, 2] and runtime.batch_size == 2


def test_openvino_gets_a_new_request_where_memory_ran_out():
    made = []

    class Request:
        """One that found no memory never finds any again."""

        def __init__(self):
            made.append(self)
            self.is_spoilt = False

        def infer(self, inputs):
            self.rows = inputs[0]
            self.is_spoilt = self.is_spoilt or len(self.rows) > 4
            if self.is_spoilt:
                raise RuntimeError(SAID[1])

        def get_output_tensor(self, _):
            return SimpleNamespace(data=self.rows * 2.0)

    compiled = _Compiled(SimpleNamespace(create_infer_request=Request))
    held, rows = batches(16), np.arange(20.0).reshape(20, 1)
    np.testing.assert_array_equal(in_parts(held, compiled.run, [rows], compiled.forget), rows * 2)
    assert (len(made), held.batch_size) == (3, 4)


def test_the_shipped_encoder_gives_the_same_embeddings_with_little_memory(monkeypatch):
    plain, scarce = load_encoder("mini"), load_encoder("mini")
    side = plain.preprocess.size
    pixels = np.random.default_rng(5).integers(0, 256, (5, side, side, 3), np.uint8)
    texts = ["a dog", "a cat on a mat", "rain"]
    expected = plain.encode_images(pixels), plain.encode_texts(texts)
    real = Session.run

    def run(session, inputs):
        if len(inputs[0]) > 2:
            raise RuntimeError(SAID[0])
        return real(session, inputs)

    monkeypatch.setattr(Session, "run", run)
    np.testing.assert_allclose(scarce.encode_images(pixels), expected[0], atol=1e-5)
    np.testing.assert_allclose(scarce.encode_texts(texts), expected[1], atol=1e-5)
