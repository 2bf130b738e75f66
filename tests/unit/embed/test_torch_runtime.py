"""The torch runtime: batches that are too large, precisions, devices."""

import numpy as np
import pytest

from clipsearch.errors import ClipsearchError, InputError

torch = pytest.importorskip("torch")
from clipsearch.embed.runtime.torch import TorchRuntime  # noqa: E402


class Tower:
    """Answers x * 2, and runs out of memory above ``limit`` rows."""

    def __init__(self, limit):
        self.limit, self.sizes = limit, []

    def __call__(self, x):
        self.sizes.append(len(x))
        if len(x) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return x.float() * 2


def batch(n):
    return np.arange(3 * n, dtype=np.int64).reshape(n, 3)


def test_a_batch_too_large_for_memory_is_halved_and_the_answer_is_complete():
    runtime, tower = TorchRuntime("cpu"), Tower(limit=16)
    np.testing.assert_array_equal(runtime.run(tower, batch(100)), batch(100) * 2.0)
    assert tower.sizes[:3] == [64, 32, 16]
    assert max(tower.sizes[2:]) == 16
    tower.sizes.clear()
    runtime.run(tower, batch(40))
    assert tower.sizes == [16, 16, 8], "the smaller batch is remembered"


def test_a_small_batch_is_halved_from_its_own_size():
    runtime, tower = TorchRuntime("cpu"), Tower(limit=2)
    np.testing.assert_array_equal(runtime.run(tower, batch(5)), batch(5) * 2.0)
    assert tower.sizes == [5, 2, 2, 1]


def test_no_memory_for_a_single_row_is_a_clear_error():
    with pytest.raises(InputError, match="Memory ran out on cpu") as caught:
        TorchRuntime("cpu").run(Tower(limit=0), batch(4))
    assert len(str(caught.value).splitlines()) <= 3


def test_other_errors_of_a_tower_are_not_taken_for_memory():
    def broken(x):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        TorchRuntime("cpu").run(broken, batch(4))


def test_bytes_arrive_as_bytes_and_a_read_only_batch_is_no_trouble():
    seen = []
    pixels = np.zeros((2, 4, 4, 3), np.uint8)
    pixels.setflags(write=False)

    def tower(x):
        seen.append(x.dtype)
        return x.flatten(1)

    assert TorchRuntime("cpu").run(tower, pixels).dtype == np.float32
    assert seen == [torch.uint8]


def test_no_gradient_is_kept():
    parameter = torch.nn.Parameter(torch.ones(3))
    assert TorchRuntime("cpu").run(lambda x: x.float() * parameter, batch(2)).shape == (2, 3)


@pytest.mark.parametrize(
    ("precision", "has_it", "dtype"),
    [
        ("auto", True, torch.bfloat16),
        ("auto", False, torch.float32),
        ("fp32", True, torch.float32),
        ("bf16", False, torch.bfloat16),
    ],
)
def test_weights_on_a_cpu_are_bfloat16_where_the_processor_has_it_or_it_is_asked_for(
    precision, has_it, dtype, monkeypatch
):
    monkeypatch.setattr("clipsearch.embed.runtime.torch.has_bfloat16", lambda: has_it)
    runtime = TorchRuntime("cpu", precision)
    module = runtime.prepare(torch.nn.Linear(3, 2))
    assert module.weight.dtype == dtype
    assert runtime.precision == {torch.bfloat16: "bf16", torch.float32: "fp32"}[dtype]
    assert runtime.casts_weights == (dtype != torch.float32)
    assert not module.training


def test_several_inputs_are_cut_at_the_same_rows():
    runtime = TorchRuntime("cpu")
    runtime.batch_size = 3
    found = runtime.run(lambda a, b: a + b, batch(8), 10 * batch(8))
    np.testing.assert_array_equal(found, 11.0 * batch(8))


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "int4"},
        {"precision": "int8"},
        {"device": "cpu", "precision": "fp16"},
        {"device": "abacus"},
        {"device": "cuda:99"},
    ],
)
def test_what_this_machine_cannot_do_is_a_clear_error(options):
    with pytest.raises(ClipsearchError):
        TorchRuntime(**options)


def test_auto_takes_cuda_where_there_is_one():
    assert TorchRuntime().device.startswith("cuda" if torch.cuda.is_available() else "cpu")


def test_threads_are_set_only_when_asked_for():
    before = torch.get_num_threads()
    TorchRuntime("cpu")
    assert torch.get_num_threads() == before
    try:
        TorchRuntime("cpu", threads=1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.gpu
def test_cuda_agrees_with_the_cpu(tiny, pictures):
    from clipsearch.embed import load_encoder

    cpu, cuda = load_encoder(tiny.clip_name, device="cpu"), load_encoder(tiny.clip_name, device="cuda")
    pixels = np.stack([cpu.preprocess(picture) for picture in pictures])
    assert (cpu.encode_images(pixels) * cuda.encode_images(pixels)).sum(axis=1).min() > 0.995
    assert (cpu.encode_texts(["a dog"]) * cuda.encode_texts(["a dog"])).sum() > 0.995
    assert cpu.fingerprint() == cuda.fingerprint()
