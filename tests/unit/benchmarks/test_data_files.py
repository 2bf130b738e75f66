"""Files of the field: what was written is read, and what is not whole is refused."""

import numpy as np
import pytest

from benchmarks.data_files import read_bin, read_hdf5, read_truth


def write_bin(path, rows):
    path.write_bytes(np.array(rows.shape, np.uint32).tobytes() + rows.tobytes())
    return str(path)


@pytest.mark.parametrize(("ending", "dtype"), [(".fbin", np.float32), (".u8bin", np.uint8), (".i8bin", np.int8)])
def test_rows_of_a_big_ann_file_are_read_as_written(tmp_path, ending, dtype):
    rows = np.random.default_rng(0).integers(0, 100, (7, 5)).astype(dtype)
    read = read_bin(write_bin(tmp_path / f"base{ending}", rows))
    assert read.dtype == dtype
    assert np.array_equal(read, rows)


def test_a_big_ann_file_that_is_cut_off_is_refused(tmp_path):
    path = tmp_path / "base.fbin"
    write_bin(path, np.zeros((7, 5), np.float32))
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match="not whole"):
        read_bin(str(path))


def test_an_unknown_ending_is_refused(tmp_path):
    with pytest.raises(ValueError, match="ends in none"):
        read_bin(str(tmp_path / "base.bin"))


def test_a_ground_truth_gives_ids_and_distances(tmp_path):
    ids = np.arange(6, dtype=np.uint32).reshape(2, 3)
    distances = np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3)
    path = tmp_path / "truth.bin"
    path.write_bytes(np.array([2, 3], np.uint32).tobytes() + ids.tobytes() + distances.tobytes())
    read = read_truth(str(path))
    assert np.array_equal(read[0], ids)
    assert np.array_equal(read[1], distances)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="not whole"):
        read_truth(str(path))


def hdf5(path, rows, distance):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    with h5py.File(path, "w") as file:
        file["train"], file["test"] = rows, rows[:3]
        file.attrs["distance"] = distance
    return str(path)


def test_an_ann_benchmarks_file_gives_train_and_test(tmp_path):
    rows = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)
    base, queries = read_hdf5(hdf5(tmp_path / "a.hdf5", rows, "angular"))
    assert np.array_equal(base, rows)
    assert np.array_equal(queries, rows[:3])


def test_rows_made_for_another_distance_are_refused(tmp_path):
    rows = np.full((20, 4), 7.0, np.float32)
    with pytest.raises(ValueError, match="euclidean"):
        read_hdf5(hdf5(tmp_path / "a.hdf5", rows, "euclidean"))
