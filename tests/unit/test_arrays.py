"""Sets of ids, against numpy's own."""

import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from clipsearch.arrays import distinct, united

IDS = arrays.arrays(np.int64, st.integers(0, 30), elements=st.integers(-5, 5))


@given(IDS, IDS)
def test_sets_are_those_of_numpy(first, second):
    np.testing.assert_array_equal(distinct(first), np.unique(first))
    np.testing.assert_array_equal(united(first, second), np.union1d(first, second))


def test_what_is_sorted_already_is_not_copied():
    ids = np.arange(5)
    assert distinct(ids) is ids


def test_they_do_not_load_masked_arrays():
    code = "import sys, numpy as np; from clipsearch.arrays import united; united(np.array([2, 2]), np.array([1])); "
    subprocess.run([sys.executable, "-c", code + "assert 'numpy.ma' not in sys.modules"], check=True)
