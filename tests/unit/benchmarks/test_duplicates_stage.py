"""The limits of duplicates are measured on few photographs too, none of which need be like another."""

import io
import tarfile
from argparse import Namespace

import numpy as np
import pytest
from PIL import Image

from benchmarks.stages.duplicates import limits
from clipsearch.evaluation.planting import COPIES


def tar_of(path, pictures):
    with tarfile.open(path, "w") as tar:
        for n, picture in enumerate(pictures):
            data = io.BytesIO()
            picture.save(data, "JPEG", quality=95)
            info = tarfile.TarInfo(f"{n}.jpg")
            info.size = data.tell()
            data.seek(0)
            tar.addfile(info, data)
    return str(path)


def test_pictures_none_of_which_is_like_another_have_a_row_too(tmp_path):
    rng = np.random.default_rng(0)
    stripes = np.zeros((96, 96, 3), np.uint8)
    stripes[:, ::12] = 255
    noise = Image.fromarray(rng.integers(0, 256, (96, 96, 3)).astype(np.uint8))
    rows = list(limits(Namespace(pictures=[tar_of(tmp_path / "two.tar", [Image.fromarray(stripes), noise])], each=9)))
    others, *copies = rows
    assert (others["pictures"], others["pairs"], others["pairs_from_0.85"]) == (2, 1, 0)
    assert others["least_difference"] is None and others["largest_cosine"] < 0.85
    assert [row["copies"] for row in copies] == list(COPIES)


def test_one_photograph_is_too_few(tmp_path):
    with pytest.raises(SystemExit, match="Two photographs"):
        list(limits(Namespace(pictures=[], each=9)))
