"""The transcript in docs/fill.md is what the commands print, and shows the whole way."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "fill.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("transcript", ROOT / "scripts" / "transcript.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def block(script):
    inside = PAGE.partition(script.BEGIN)[2].partition(script.END)[0]
    return re.fullmatch(r"\n```text\n(.*)\n```\n", inside, re.DOTALL)[1].splitlines()


def test_the_page_shows_the_commands_of_the_script_and_each_stage_of_the_way(script):
    lines = block(script)
    typed = [line[2:] for line in lines if line.startswith("$ ")]
    assert typed == [script.shown(step) for step in script.steps()]
    text = "\n".join(lines)
    for stage in ("red-balloon", "(exit code 1)", "--fill auto would sketch it with mini", "generated, not a hit:",
                  '"event": "made"', "1 generated picture left out, not counted as photos",
                  "Rejected: 'mini' cannot draw"):  # fmt: skip
        assert stage in text, stage
    assert text.count("/work") == text.count("/tmp") == 0


def test_a_transcript_takes_the_place_of_the_one_before(script):
    page = f"a\n{script.BEGIN}\nold\n{script.END}\nz\n"
    once = script.put_into(page, ["$ one"])
    assert once == f"a\n{script.BEGIN}\n```text\n$ one\n```\n{script.END}\nz\n" == script.put_into(once, ["$ one"])
    with pytest.raises(SystemExit, match="no lines"):
        script.put_into("a page", [])


def test_what_differs_from_run_to_run_is_taken_out(script, tmp_path):
    assert script.settled("a\n  embed 60 %, decode 7 %\nb\n", str(tmp_path)) == "a\nb\n"
    said = f"{tmp_path}/indexes/x/generated/0123456789abcdef0123.generated.png 3.2 s (5.1 images/s)"
    assert script.settled(said, str(tmp_path)) == "indexes/x/generated/<name>.generated.png <time> s <rate>"


@pytest.mark.slow
def test_the_page_has_what_the_terminal_shows(script):
    """About a minute: 200 drawings go through the image tower."""
    assert script.transcript() == block(script)
