"""A search with an exported model, as a whole process: the same answer, and torch is never imported."""

import json
import subprocess
import sys

import clipsearch
from clipsearch.cli import run

SEARCH = (
    "import sys; from clipsearch.cli import run\n"
    "code = run(sys.argv[1:])\n"
    "print([m for m in ('torch', 'open_clip', 'transformers', 'ftfy', 'regex') if m in sys.modules], file=sys.stderr)\n"
    "sys.exit(code)"
)


def hits(stdout):
    return [(hit["path"], round(hit["score"], 3)) for hit in map(json.loads, stdout.splitlines()) if "path" in hit]


def test_a_search_by_an_exported_model_imports_no_torch_and_answers_the_same(exported_clip, photos, tmp_path):
    place = str(tmp_path / "indexed")
    with clipsearch.create(place, exported_clip.name, precision="fp32") as collection:
        collection.index(photos)
        plain = clipsearch.open(place, runtime="torch", precision="fp32").search("a red dog", k=6)
    asked = ["search", "-i", place, "--text", "a red dog", "-k", "6", "--all", "--json", "-v"]
    done = subprocess.run([sys.executable, "-c", SEARCH, *asked], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "[]"
    assert "texts by onnx" in done.stderr
    found = hits(done.stdout)
    assert len(found) == 6
    assert [score for _, score in found] == [round(float(hit.score), 3) for hit in plain]


def test_models_export_prints_where_the_towers_lie_and_makes_them_once(exported_clip, capsysbinary):
    assert run(["models", "export", exported_clip.name]) == 0
    folders = capsysbinary.readouterr().out.decode().splitlines()
    assert len(folders) == 2
    assert all(str(exported_clip.cache.parent) in folder for folder in folders)


def test_a_model_without_towers_to_export_is_a_clear_error(capsysbinary):
    assert run(["models", "export", "mini"]) == 2
    assert b"no towers to export" in capsysbinary.readouterr().err
