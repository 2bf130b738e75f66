"""``search --fill``, ``generate`` and ``generated``: what is printed where, and what exit codes depend on."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import make_photo

from clipsearch.errors import GenerationError
from clipsearch.generate.weights import SHIPPED
from clipsearch.types import GeneratedImage, Hit, Verdict

FILL = ("--fill-model", "gradient")


@pytest.fixture(autouse=True)
def own_locks(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "no-weights"))


@pytest.fixture
def answers(fake, tmp_path):
    """A collection that answers with two hits, and draws a picture without drawing."""
    make_photo(tmp_path / "dog.png", (220, 20, 20))
    fake.hits = [Hit(1, 11, str(tmp_path / "dog.png"), 0.31234), Hit(2, 12, "/p/cat.jpg", 0.25)]
    fake.drawn = []
    path = tmp_path / "indexes" / "photos" / "generated" / "abc.generated.png"

    def generate(prompt, **options):
        fake.drawn.append((prompt, options))
        if fake.failure_of_drawing:
            raise fake.failure_of_drawing
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (64, 64), (0, 0, 200)).save(path)
        return GeneratedImage(
            str(path),
            prompt,
            7,
            "gradient",
            "MIT",
            "",
            "00" * 32,
            None,
            2,
            -0.5,
            0.01,
            False,
            1.5,
            (),
            path.read_bytes(),
        )

    fake.generate, fake.failure_of_drawing = generate, None
    return fake


def say(fake, verdict):
    fake.verdict, fake.p_value = Verdict(verdict), None if verdict == "uncalibrated" else 0.5


def test_offer_says_in_the_one_line_what_drawing_would_take_and_draws_nothing(cli, answers):
    say(answers, "none")
    done = cli("search", "a rocket", *FILL)
    assert done.code == 1 and done.out == b"" and answers.drawn == [] and done.err.count("\n") == 1
    for words in ("matches 'a rocket'", "--fill auto", "gradient on cpu", "time not known", "MIT", "*.generated.png"):
        assert words in done.err
    assert "--fill auto would sketch it with mini on cpu" in cli("search", "a rocket").err
    assert "--fill auto" not in cli("search", "a rocket", "--fill", "off", *FILL).err
    assert cli("search", "a rocket", "-q", *FILL).err == ""


def test_nothing_is_offered_that_the_generator_says_it_cannot_draw(cli, answers):
    say(answers, "none")
    done = cli("search", "two dogs in the snow")
    assert done.code == 1 and done.err.count("\n") == 1 and "--fill auto" not in done.err
    assert "mini, which would draw here, cannot draw that; clipsearch generate --list" in done.err


@pytest.mark.parametrize("verdict", ["match", "weak", "uncalibrated"])
def test_auto_draws_on_none_only(cli, answers, verdict):
    say(answers, verdict)
    plain = cli("search", "dog", "--fill", "off")
    assert cli("search", "dog", "--fill", "auto", *FILL) == plain and answers.drawn == []
    say(answers, "none")
    cli("search", "dog", "--fill", "auto", *FILL)
    assert [prompt for prompt, _ in answers.drawn] == ["dog"]


@pytest.mark.parametrize("verdict", list(Verdict))
@pytest.mark.parametrize(
    ("form", "failure"),
    [
        ((), None),
        (("-f",), GenerationError("it broke")),
        (("-0",), None),
        (("--all",), OSError("no disk")),
        (("--all", "-f"), RuntimeError()),
    ],
)
def test_stdout_and_exit_code_are_those_of_the_answer_alone(cli, answers, verdict, form, failure):
    say(answers, str(verdict))
    plain = cli("search", "dog", "--fill", "off", *form)
    answers.failure_of_drawing = failure
    for mode in ("offer", "auto", "always"):
        done = cli("search", "dog", "--fill", mode, *FILL, *form)
        assert (done.code, done.out) == (plain.code, plain.out)
        assert b"generated" not in done.out


def test_the_answer_is_out_before_anything_is_drawn(cli, answers, capsysbinary):
    say(answers, "match")
    seen = []
    inner = answers.generate
    answers.generate = lambda *a, **k: seen.append(capsysbinary.readouterr().out) or inner(*a, **k)
    cli("search", "dog", "--fill", "always", *FILL)
    assert seen[0].count(b"\n") == 2


def test_a_failure_is_a_note(cli, answers):
    say(answers, "none")
    answers.failure_of_drawing = GenerationError("it broke")
    assert "nothing was generated: it broke" in cli("search", "dog", "--fill", "auto", *FILL).err


def test_what_was_drawn_is_said_to_be_generated(cli, answers):
    say(answers, "none")
    err = cli("search", "dog", "--fill", "auto", *FILL).err
    assert "generated, not a hit: " in err and "abc.generated.png" in err and "MIT" in err


def test_json_has_the_pictures_in_a_field_of_their_own_without_rank_or_score(cli, answers):
    say(answers, "none")
    whole, fill = map(json.loads, cli("search", "dog", "--json", "--fill", "auto", *FILL).lines)
    assert whole["schema"] == "clipsearch.result/1" and whole["generated"] == [] and whole["hits"] == 0
    assert fill["schema"] == "clipsearch.fill/1" and fill["verdict"] == "none" and fill["why"] is None
    (picture,) = fill["generated"]
    assert picture["generated"] is True and picture["path"].endswith(".generated.png") and picture["seed"] == 7
    assert not {"rank", "score", "id"} & set(picture)
    answers.failure_of_drawing = GenerationError("it broke")
    *_, fill = map(json.loads, cli("search", "dog", "--json", "--fill", "auto", *FILL).lines)
    assert fill["generated"] == [] and fill["why"] == "it broke"
    assert len(cli("search", "dog", "--json", *FILL).lines) == 1


def test_only_words_are_drawn_and_only_pictures(cli, answers, tmp_path):
    say(answers, "none")
    cli("search", str(tmp_path / "dog.png"), "--fill", "always", *FILL)
    cli("search", "dog", "--target", "text", "--fill", "always", *FILL)
    assert answers.drawn == []


def test_a_contact_sheet_shows_it_with_a_badge(cli, answers, home):
    say(answers, "match")
    cli("search", "dog", "--contact-sheet", "plain.png")
    cli("search", "dog", "--contact-sheet", "filled.png", "--fill", "always", *FILL)
    red = np.array([176, 0, 32])
    sheets = [np.asarray(Image.open(name, formats=["PNG"]).convert("RGB")) for name in ("plain.png", "filled.png")]
    badges = [(np.abs(sheet.astype(int) - red).max(axis=2) == 0).sum() for sheet in sheets]
    assert badges[0] == 0 and badges[1] > 2000 and sheets[1].shape[1] > sheets[0].shape[1]


@pytest.fixture
def photos_indexed(cli, home, tmp_path):
    """A real collection of two pictures."""
    make_photo(tmp_path / "photos" / "red.png", (220, 20, 20))
    make_photo(tmp_path / "photos" / "blue.png", (20, 40, 220))
    assert cli("index", "photos", "--model", "hashing").code == 0
    return tmp_path


def test_generate_prints_where_the_picture_is(cli, photos_indexed):
    done = cli("generate", "a red rocket", "--model", "gradient")
    assert done.code == 0 and len(done.lines) == 1 and os.path.isfile(done.lines[0])
    assert done.lines[0].endswith(".generated.png") and "generated, not a hit" in done.err
    again = json.loads(cli("generate", "a red rocket", "--model", "gradient", "--json").lines[0])
    assert again["cached"] and again["path"] == done.lines[0] and again["schema"] == "clipsearch.generated/1"


def test_generate_takes_a_size_a_source_and_an_output(cli, photos_indexed):
    done = cli(
        "generate", "a red rocket", "--model", "gradient", "--size", "96x64", "--like", "photos/red.png",
        "--strength", "0.5", "-o", "out.generated.png",
    )  # fmt: skip
    assert done.code == 0, done.err
    with Image.open("out.generated.png", formats=["PNG"]) as picture:
        assert picture.size == (96, 64)
    assert b"compositeWithTrainedAlgorithmicMedia" in Path("out.generated.png").read_bytes()


def test_without_any_generator_it_says_how_to_get_one(cli, photos_indexed, monkeypatch, tmp_path):
    monkeypatch.setitem(SHIPPED, "mini", str(tmp_path))
    done = cli("generate", "a dog")
    assert done.code == 2 and "generate --list" in done.err and done.err.strip().count("\n") < 3


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("generate",), 2, "PROMPT"),
        (("generate", "a dog", "--model", "gradient", "-o", "dog.png"), 2, ".generated.png"),
        (("generate", "a dog", "--model", "gradient", "--size", "12"), 2, "WxH"),
        (("generate", "a dog", "--model", "gradient", "--size", "12x12"), 2, "multiple of 8"),
        (("generate", "a dog", "--model", "gradient", "--strength", "0.5"), 2, "picture to start from"),
        (("generate", "a dog", "--model", "sd-turbot"), 2, "sd-turbo"),
        (("generate", "a dog", "--model", "sd-turbo"), 2, "hf download stabilityai/sd-turbo"),
        (("generate", "a zebra", "--model", "gradient"), 1, "Rejected"),
        (("generated", "show", "zzz"), 2, "generated list"),
        (("generated", "rm"), 2, "--all"),
    ],
)
def test_what_goes_wrong_is_said_in_a_few_lines(cli, photos_indexed, arguments, code, words):
    done = cli(*arguments)
    assert done.code == code and words in done.err and done.err.strip().count("\n") < 3 and done.out == b""


def test_generators_are_listed_with_licence_and_size(cli, photos_indexed):
    lines = cli("generate", "--list").lines
    assert any("sd-turbo" in line and "5.2 GB" in line and "Stability" in line and "\tno\t" in line for line in lines)
    cards = [json.loads(line) for line in cli("generate", "--list", "--json").lines]
    assert {card["licence"] != "" for card in cards} == {True} and "gradient" not in {card["name"] for card in cards}
    assert all(len(line) <= 80 for line in cli("generate", "--list", "--no-color", terminal=True).lines[:-1])


def test_what_a_generator_draws_is_listed_where_it_says_so(cli, photos_indexed):
    done = cli("generate", "--list", "--model", "mini")
    assert done.code == 0 and len(done.lines) == 106 and done.lines[0] in ("dog", b"dog") and "purple" in done.err
    (said,) = [json.loads(line) for line in cli("generate", "--list", "--model", "mini", "--json").lines]
    assert len(said["things"]) == 106 and "purple" in said["backgrounds"]
    done = cli("generate", "--list", "--model", "sd-turbo")
    assert done.code == 0 and done.lines == [] and "does not say what it draws" in done.err


def test_what_the_generator_cannot_draw_is_rejected_in_three_lines(cli, photos_indexed):
    done = cli("generate", "two dogs in the snow", "--model", "mini")
    assert done.code == 1 and done.out == b"" and done.err.strip().count("\n") == 2
    for words in ("Rejected: 'mini' cannot draw 'two dogs in the snow'", "106 things", "--list --model mini"):
        assert words in done.err


def test_generated_pictures_are_listed_shown_and_removed(cli, photos_indexed):
    path = cli("generate", "a red rocket", "--model", "gradient").lines[0]
    name = os.path.basename(path).split(".")[0]
    heading, row = cli("generated", "list").lines
    assert row.split("\t")[0] == name and row.endswith("a red rocket") and heading.startswith("name")
    assert json.loads(cli("generated", "list", "--json").lines[0])["path"] == path
    shown = json.loads(cli("generated", "show", name[:6]).lines[0])
    assert shown["prompt"] == "a red rocket" and shown["licence"] == "MIT"
    assert cli("generated", "rm", name).code == 0 and not os.path.exists(path)
    assert len(cli("generated", "list").lines) == 1
    assert "a red rocket" in Path("indexes/photos/generated/ledger.jsonl").read_text()
    cli("generate", "a red rocket", "--model", "gradient")
    assert "removed 1 generated picture" in cli("generated", "rm", "--all").err


def test_an_index_run_leaves_a_copy_out_and_exits_with_zero(cli, photos_indexed):
    path = Path(cli("generate", "a red rocket", "--model", "gradient").lines[0])
    (photos_indexed / "photos" / "holiday.png").write_bytes(path.read_bytes())
    done = cli("index", "photos")
    assert done.code == 0 and "1 generated picture left out" in done.err and "2 images" in done.err
