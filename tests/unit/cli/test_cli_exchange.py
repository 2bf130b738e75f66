"""``index --embeddings`` and ``export`` at the front door."""

import numpy as np
import pytest
from clip_retrieval_layout import unit, write_golden


@pytest.fixture
def imported(cli, home, tmp_path):
    write_golden(tmp_path / "laion")
    done = cli("index", "--embeddings", "laion")
    assert done.code == 0 and "25 images, 25 captions (25 imported" in done.err
    return home / "laion"


def test_a_second_import_says_that_nothing_was_new(cli, imported):
    done = cli("index", "--embeddings", "laion")
    assert done.code == 0 and "0 imported, 25 unchanged" in done.err


def test_refused_rows_are_named_and_the_exit_code_says_so(cli, home, tmp_path):
    rows = unit(5, 8)
    rows[3] = 0
    np.save(tmp_path / "v.npy", rows)
    done = cli("index", "--embeddings", "v.npy", "--report", "skipped.jsonl")
    assert done.code == 3 and "v.npy::3: all zeros" in done.err and "4 images" in done.err
    assert "zero_embedding" in (tmp_path / "skipped.jsonl").read_text()


def test_words_are_refused_where_nobody_named_the_model(cli, imported):
    done = cli("search", "a dog")
    assert done.code == 2 and "--model NAME" in done.err and len(done.err.splitlines()) <= 3
    assert "unknown (8 dimensions)" in cli("status", "-i", "laion").out.decode()
    assert "imported, paths as given (25 images)" in cli("status", "-i", "laion").out.decode()


def test_a_model_of_another_dimension_and_options_of_pictures_are_refused(cli, home, tmp_path):
    np.save(tmp_path / "v.npy", unit(5, 8))
    assert "make" in (done := cli("index", "--embeddings", "v.npy", "--model", "mini")).err and done.code == 2
    assert not (home / "v").exists()
    assert cli("index", "--embeddings", "v.npy", "--jobs", "2").code == 2
    assert cli("index", ".", "--allow-gaps").code == 2


def test_another_source_of_another_model_is_refused_with_what_to_say(cli, imported, tmp_path):
    np.save(tmp_path / "v.npy", unit(5, 8))
    done = cli("index", "--embeddings", "v.npy", "--model", "vit-b-32", "-i", "laion")
    assert done.code == 12 and "'unknown'" in done.err
    np.save(tmp_path / "w.npy", unit(5, 4))
    assert "4 numbers" in cli("index", "--embeddings", "w.npy", "-i", "laion").err


def test_export_says_what_it_wrote_and_refuses_to_write_over_it(cli, imported, tmp_path):
    done = cli("export", "out", "--to", "clip-retrieval", "--partition-rows", "10")
    assert done.code == 0 and done.err.startswith("out: 25 images as clip-retrieval") and done.out == b""
    assert (tmp_path / "out" / "img_emb" / "img_emb_2.npy").exists()
    again = cli("export", "out", "--to", "clip-retrieval")
    assert again.code == 2 and "--force" in again.err
    assert cli("export", "out", "--to", "clip-retrieval", "--force").code == 0
    assert not (tmp_path / "out" / "img_emb" / "img_emb_2.npy").exists()


def test_export_refuses_what_does_not_go_together(cli, imported):
    assert "--url goes with --to qdrant" in cli("export", "out", "--to", "npy", "--url", "http://x").err
    assert "Did you mean 'parquet'" in cli("export", "out", "--to", "parket").err
    assert cli("export", "out", "--to", "parquet", "--where", "nonsense ==").code == 2
