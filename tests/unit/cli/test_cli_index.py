"""``clipsearch index``: what reaches the collection, and what a person is told."""

import inspect
import json

import click
import pytest

import clipsearch
from clipsearch.cli import group
from clipsearch.cli.summary import index_summary, skip_listing, stage_shares
from clipsearch.errors import CollectionNotFoundError, InputError
from clipsearch.flows.ingest import IndexReport
from clipsearch.types import Skip, SkipReason


def report(*skips, **changes):
    values = dict(
        scanned=1015, embedded=996, reused=2, unchanged=2, ignored=12, deleted=0, skips=skips,
        texts=0, texts_embedded=0, images_total=1000, texts_total=0, seconds=21.4, stages={"embed": 20.0}, version=2,
    )  # fmt: skip
    return IndexReport(**{**values, **changes})


def skip(name, reason=SkipReason.TRUNCATED, detail="12 bytes short"):
    return Skip(name.encode(), reason, detail)


@pytest.fixture
def photos(home):
    folder = home.parent / "photos"
    folder.mkdir()
    return folder


def test_the_closing_line_counts_everything_and_is_one_line_in_a_pipe(cli, fake, photos):
    fake.report = report()
    done = cli("index", "photos")
    assert done.code == 0 and done.out == b""
    assert done.err == (
        "indexes/photos: 1,000 images (996 embedded, 2 reused, 2 unchanged, 0 deleted), "
        "0 skipped, 12 ignored in 21.4 s (46.5 images/s)\n"
        "  embed 93 %\n"
    )


def test_on_a_narrow_terminal_no_line_of_the_summary_is_wider_than_it():
    lines = list(index_summary(report(texts=5000, texts_total=5000), "indexes/photos", 80))
    assert len(lines) == 4 and all(len(line) <= 80 for line in lines)
    assert lines[0] == "indexes/photos: 1,000 images, 5,000 captions" and "5,000 new captions" in lines[1]


def test_the_share_of_each_stage_is_named_the_largest_first():
    assert stage_shares({"scan": 0.01, "decode": 3.0, "embed": 15.5, "write": 1.0}, 20.0) == (
        "embed 78 %, decode 15 %, write 5 %"
    )
    assert stage_shares({}, 0.0) == ""


def test_a_run_with_nothing_to_embed_claims_no_speed():
    (line,) = index_summary(report(embedded=0, unchanged=1000, seconds=0.0), "x", None)
    assert line.endswith("in 0.0 s")


def test_skipped_files_are_named_and_the_exit_code_is_3(cli, fake, photos):
    fake.report = report(skip("a/b.jpg"), skip("c\n.jpg"), skip("d.jpg", SkipReason.EMPTY, ""))
    done = cli("index", "photos")
    assert done.code == 3
    assert done.err.splitlines()[:-2] == [
        "skipped 3 files:",
        "  truncated (2)",
        "    a/b.jpg: 12 bytes short",
        "    c\\n.jpg: 12 bytes short",
        "  empty (1)",
        "    d.jpg",
    ]


@pytest.mark.parametrize("number", [20, 21, 300])
def test_of_many_skipped_files_some_of_each_reason_are_named_and_the_rest_counted(number):
    skips = [skip(f"{n}.jpg") for n in range(number - 2)] + [skip(f"e{n}.jpg", SkipReason.EMPTY) for n in range(2)]
    lines = list(skip_listing(skips, None))
    named = [line for line in lines if line.startswith("    ")]
    rest = number - len(named)
    assert len(named) <= 20 and any("e0.jpg" in line for line in named)
    assert (rest == 0) == (number == 20)
    if rest:
        assert lines[-1] == f"  ... and {rest} more; --report FILE lists all"
        assert list(skip_listing(skips, "r.jsonl"))[-1].endswith("all are in r.jsonl")


def test_the_report_holds_every_skipped_file(cli, fake, photos, home):
    fake.report = report(*(skip(f"{n}.jpg") for n in range(50)))
    assert cli("index", "photos", "--report", "r.jsonl").code == 3
    lines = [json.loads(line) for line in (home.parent / "r.jsonl").read_text().splitlines()]
    assert [line["path"] for line in lines] == [f"{n}.jpg" for n in range(50)]
    assert {line["schema"] for line in lines} == {"clipsearch.skip/1"}
    assert sorted(p.name for p in home.parent.iterdir()) == ["indexes", "photos", "r.jsonl"]


def test_options_reach_the_collection_under_its_own_names(cli, fake, photos, home):
    fake.report = report()
    (home.parent / "c.csv").write_text("image,caption\n")
    options = [
        "--captions",
        "c.csv",
        "--exclude",
        "*.tmp",
        "--exclude",
        "raw",
        "--batch-size",
        "8",
        "--jobs",
        "2",
        "--commit-every",
        "50",
        "--wait",
    ]
    cli("index", "photos", *options)
    expected = {"source": "photos", "captions": ("c.csv",), "excludes": ("*.tmp", "raw"), "batch_size": 8, "workers": 2}
    assert expected.items() <= fake.asked.items()
    assert fake.asked["commit_rows"] == 50 and fake.asked["wait"] is True and fake.asked["progress"] is None


def test_the_defaults_that_help_shows_are_those_of_the_collection():
    from clipsearch import Collection

    command = group.get_command(click.Context(group), "index")
    shown = {p.name: p.show_default for p in command.params if isinstance(p, click.Option)}
    actual = {name: p.default for name, p in inspect.signature(Collection.index).parameters.items()}
    assert shown["batch_size"] == str(actual["batch_size"])
    assert shown["commit_every"] == str(actual["commit_rows"])
    assert shown["jobs"].startswith(str(actual["workers"]))


def test_a_new_collection_is_called_as_the_folder_and_tells_of_better_models(cli, fake, home):
    (home.parent / "birds").mkdir()
    fake.report = report()
    done = cli("index", "birds")
    assert fake.path == "indexes/birds"
    assert done.err.startswith("note: a better model is to be had\nindexes/birds: ")
    cli("index", "birds", "-i", "small", "--model", "mini")
    assert fake.path == "indexes/small"
    cli("index", "birds", "-i", "./elsewhere/small")
    assert fake.path == "./elsewhere/small"


def test_another_model_than_the_collections_is_refused_with_12(cli, fake, photos):
    done = cli("index", "photos", "--model", "vit-b-32")
    assert done.code == 12 and "mini" in done.err and "--model vit-b-32" in done.err
    fake.report = report()
    assert cli("index", "photos", "--model", "mini").code == 0


def test_a_folder_that_joins_by_its_name_alone_is_mentioned(cli, fake, photos):
    fake.report = report()
    fake.roots = (("/other/photos", True, 5),)
    assert "keeps them apart" in cli("index", "photos").err
    assert "keeps them apart" not in cli("index", "photos", "-i", "photos").err
    fake.roots = ((str(photos), True, 5),)
    assert "keeps them apart" not in cli("index", "photos").err


def test_of_paths_on_stdin_nothing_joins_by_its_name(cli, fake, photos):
    fake.report = report()
    fake.roots = (("/other/photos", True, 5),)
    assert cli("index", "-", "-i", "photos", stdin=b"a.jpg\n").code == 0
    (photos.parent / "photos.csv").write_text("path\na.jpg\n")
    assert "keeps them apart" not in cli("index", "photos.csv").err


def test_a_collection_that_another_process_makes_meanwhile_is_taken(cli, fake, photos, monkeypatch):
    fake.report = report()
    calls = []

    def open_it(path, **_):
        calls.append(path)
        if len(calls) == 1:
            raise CollectionNotFoundError("not yet")
        return fake

    def create_it(path, model=None, **_):
        raise InputError("There is a collection already.")

    monkeypatch.setitem(vars(clipsearch), "open", open_it)
    monkeypatch.setitem(vars(clipsearch), "create", create_it)
    assert cli("index", "photos").code == 0 and len(calls) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none"], "none"),
        (["photos", "--captions", "none.csv"], "none.csv"),
        (["photos", "--captions", "wrong.csv"], "has no columns image and caption"),
        (["photos", "--report", "none/r.jsonl"], "cannot be written"),
        (["photos", "--report", "photos"], "cannot be written"),
        (["photos", "--batch-size", "0"], "--batch-size"),
        ([], "SOURCE"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_made(cli, fake, photos, home, arguments, said):
    (home / "photos" / "CURRENT").unlink()
    (home / "photos").rmdir()
    (photos.parent / "wrong.csv").write_text("picture,words\na.jpg,b\n")
    done = cli("index", *arguments)
    assert done.code == 2 and said in done.err and fake.asked == {} and not list(home.iterdir())


def test_paths_can_come_through_stdin(cli, fake, home):
    fake.report = report()
    cli("index", "-", stdin=b"a.jpg\n")
    assert fake.path == "indexes/stdin" and fake.asked["source"] == "-" and fake.asked["stdin"].read() == b"a.jpg\n"
    assert cli("index", "-", terminal=True).code == 0  # the test's stdin is a pipe still


def test_verbose_shows_where_the_time_went_and_quiet_says_nothing(cli, fake, photos):
    fake.report = report(notes=("a note",))
    assert "time: embed 20.0 s" in cli("index", "photos", "-v").err
    assert "note: a note" in cli("index", "photos").err
    assert cli("index", "photos", "-q").err == ""


def test_a_terminal_sees_progress_and_keeps_none_of_it(cli, fake, photos):
    from clipsearch.flows.progress import Progress

    def index(source, *, progress, **_):
        for done in range(0, 100, 10):
            progress(Progress("embed", done, 100, skipped=3))
        return report()

    fake.index = index
    done = cli("index", "photos", terminal=True)
    assert "3 skipped" in done.err and "embedding" in done.err and done.out == b""
