"""Planted copies of real files: found, told apart by class, nothing else, nothing deleted."""

import json
import os
import shutil
from datetime import datetime, timedelta

import numpy as np
import pytest
from PIL import Image

import clipsearch
from clipsearch.cli import run
from clipsearch.errors import InputError
from clipsearch.flows.alike import (
    Alike,
    Limits,
    aspects_fit,
    bursts,
    fold,
    hashed_pairs,
    looks_same,
    same_bytes,
    twins,
)
from clipsearch.flows.facts import COLUMNS, NO_LOOK, NO_TIME, Facts, facts_of


def scene(seed, size=(240, 160)):
    """Draw a picture of large soft shapes, unlike that of any other seed."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (4, 6, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def with_time(taken):
    exif = Image.Exif()
    exif[0x0132] = taken.strftime("%Y:%m:%d %H:%M:%S")
    return exif


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    """Twelve scenes; of some of them copies of each class; what belongs together."""
    folder = tmp_path_factory.mktemp("album")
    for seed in range(12):
        scene(seed).save(folder / f"scene{seed}.png")
    shutil.copy(folder / "scene0.png", folder / "copy of scene0.png")
    scene(1).save(folder / "scene1 saved again.jpg", quality=85)
    scene(1).resize((120, 80)).save(folder / "scene1 small.jpg", quality=90)
    scene(2).resize((480, 320)).save(folder / "scene2 large.webp", quality=90)
    start = datetime(2024, 5, 1, 12, 0, 0)
    for frame in range(3):
        pixels = np.asarray(scene(50).crop((frame * 3, 0, 220 + frame * 3, 160))).copy()
        pixels[:, :60] = (pixels[:, :60] * (1 - 0.15 * frame)).astype(np.uint8)
        taken = start + timedelta(seconds=2 * frame)
        Image.fromarray(pixels).save(folder / f"burst{frame}.jpg", quality=92, exif=with_time(taken))
    later = Image.fromarray(np.asarray(scene(60)))
    later.save(folder / "seconds later, something else.jpg", exif=with_time(start + timedelta(seconds=6)))
    with clipsearch.create(folder / "indexes" / "album", model="hashing") as made:
        made.index(folder, excludes=["indexes"], workers=1)
    return folder


def names(group):
    return {os.path.basename(file.path) for file in group.files}


LOW = Limits(proposed=0.9, burst=0.8)  # the hashing encoder sees colours and little else


def found(album, **how):
    with clipsearch.open(album / "indexes" / "album") as collection:
        return collection.duplicates(**{"limits": LOW, **how})


def test_planted_copies_are_found_by_class_and_nothing_else(album):
    before = sorted((file.name, file.read_bytes()) for file in album.iterdir() if file.is_file())
    report = found(album)
    assert [(str(group.kind), names(group)) for group in report.groups] == [
        ("same bytes", {"scene0.png", "copy of scene0.png"}),
        ("same picture", {"scene1.png", "scene1 saved again.jpg", "scene1 small.jpg"}),
        ("same picture", {"scene2.png", "scene2 large.webp"}),
        ("burst", {"burst0.jpg", "burst1.jpg", "burst2.jpg"}),
    ]
    assert report.superfluous == {Alike.BYTES: 1, Alike.PICTURE: 3, Alike.BURST: 2}
    assert report.images == 20 and report.read >= 5 and report.unread == 0
    assert sorted((file.name, file.read_bytes()) for file in album.iterdir() if file.is_file()) == before


def test_the_one_to_keep_has_most_pixels_and_comes_first(album):
    same = [group for group in found(album).groups if group.kind == "same picture"]
    assert [os.path.basename(group.files[0].path) for group in same] == ["scene1.png", "scene2 large.webp"]
    assert all(group.files[0].keep and not any(file.keep for file in group.files[1:]) for group in same)


def test_without_a_look_no_file_is_opened(album):
    report = found(album, look=False)
    assert report.read == report.unread == 0
    assert {"scene2.png", "scene2 large.webp"} in [names(group) for group in report.groups]


def test_a_file_that_changed_or_is_gone_counts_by_its_embedding(album, tmp_path):
    copy = tmp_path / "album"
    shutil.copytree(album, copy)
    scene(99).save(copy / "scene2 large.webp")
    (copy / "scene1 small.jpg").unlink()
    report = found(copy)
    assert report.unread == 2
    assert {"scene2.png", "scene2 large.webp"} in [names(group) for group in report.groups]


def test_a_thorough_look_finds_copies_whose_embeddings_differ(album, monkeypatch):
    rows = np.linalg.qr(np.random.default_rng(0).standard_normal((64, 64)))[0].astype(np.float16)
    monkeypatch.setattr("clipsearch.flows.facts.Pictures.embeddings", lambda _, at: rows[at])
    assert {group.kind for group in found(album).groups} == {Alike.BYTES}
    report = found(album, thorough=True)
    assert [names(group) for group in report.groups if group.kind == "same picture"] == [
        {"scene1.png", "scene1 saved again.jpg", "scene1 small.jpg"},
        {"scene2.png", "scene2 large.webp"},
    ]
    assert report.read == 19 and report.unread == 0


def by_hash(album, **how):
    """Groups of the same picture that are found although no embedding is like another."""
    return [names(group) for group in found(album, **how).groups if group.kind == "same picture"]


COPIES = [{"scene1.png", "scene1 saved again.jpg", "scene1 small.jpg"}, {"scene2.png", "scene2 large.webp"}]


def test_hashes_propose_copies_whose_embeddings_are_not_near_enough(album, monkeypatch):
    directions = np.linalg.qr(np.random.default_rng(0).standard_normal((64, 64)))[0]
    rows = (np.sqrt(0.6) * directions[0] + np.sqrt(0.4) * directions[1:]).astype(np.float16)  # all cosines are 0.6
    monkeypatch.setattr("clipsearch.flows.facts.Pictures.embeddings", lambda _, at: rows[at])
    assert by_hash(album) == COPIES
    assert by_hash(album, limits=Limits(bits=-1)) == []
    assert by_hash(album, look=False) == []  # what is not looked at must be nearer
    assert by_hash(album, look=False, limits=Limits(unseen_bits=4, unseen_hashed=0.55)) == COPIES


def test_pictures_of_one_hash_are_not_the_same_where_their_embeddings_are_far_apart(album, monkeypatch):
    rows = np.linalg.qr(np.random.default_rng(0).standard_normal((64, 64)))[0].astype(np.float16)
    monkeypatch.setattr("clipsearch.flows.facts.Pictures.embeddings", lambda _, at: rows[at])
    assert by_hash(album) == [] == by_hash(album, look=False)


def test_rows_of_an_older_collection_have_no_hash_and_the_command_says_so(album, tmp_path, capsysbinary, monkeypatch):
    whole = found(album)
    assert whole.unhashed == 0
    read = facts_of

    def without(rows, n):
        return read(({**row, "phash": None} for row in rows), n)

    monkeypatch.setattr("clipsearch.flows.facts.facts_of", without)
    report = found(album)
    assert report.unhashed == 20 and report.groups == whole.groups  # here the embeddings find them all
    code, out, err = command(album, capsysbinary, "--json")
    assert code == 0 and json.loads(out.splitlines()[-1])["without_hash"] == 20
    assert "20 pictures have no perceptual hash" in err


def hashed(hashes, rows, limits=None):
    known = facts(len(hashes), phash=hashes)
    rows = np.asarray(rows, np.float32)
    found = hashed_pairs(known, np.arange(len(hashes)), lambda at: rows[at], limits or Limits(), None)
    return set(zip(found.first.tolist(), found.second.tolist(), strict=True))


def test_a_hash_that_says_nothing_and_none_at_all_pair_with_nobody():
    same = np.tile([1.0, 0.0], (6, 1))
    assert hashed([5, 5, 0, 0, NO_LOOK, NO_LOOK], same) == {(0, 1)}


def test_many_pictures_of_one_hash_are_parted_by_their_embeddings():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((300, 64))
    rows[200] = rows[10] + 0.1 * rng.standard_normal(64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    near = {(i, j) for i in range(300) for j in range(i + 1, 300) if rows[i] @ rows[j] >= 0.5}
    assert (10, 200) in near and len(near) < 20
    assert hashed([0x5555_5555_5555_5555] * 300, rows) == near


def test_all_of_one_hash_are_paired_with_all_of_a_hash_near_to_it():
    base = 0x5555_5555_5555_5555
    assert hashed([base, base ^ 0b11, base, base ^ 0xFFF], np.tile([1.0, 0.0], (4, 1))) == {(0, 1), (0, 2), (1, 2)}
    assert hashed([base, base ^ 0b11, base], np.tile([1.0, 0.0], (3, 1)), Limits(bits=1)) == {(0, 2)}


def test_where_leaves_the_others_out(album):
    groups = found(album, where="name LIKE 'scene1%'").groups
    assert [names(group) for group in groups] == [{"scene1.png", "scene1 saved again.jpg", "scene1 small.jpg"}]


def test_an_empty_collection_has_no_duplicates(tmp_path):
    with clipsearch.create(tmp_path / "empty", model="hashing") as empty:
        report = empty.duplicates()
    assert report.groups == () and report.images == 0


@pytest.mark.parametrize("limits", [Limits(proposed=0), Limits(unseen=1.1), Limits(burst_seconds=-1)])
def test_limits_that_make_no_sense_are_refused(album, limits):
    with pytest.raises(InputError):
        found(album, limits=limits)


# the rules


def facts(n, **given):
    columns = {
        "ids": np.arange(n),
        "content": np.arange(n),
        "width": np.full(n, 300),
        "height": np.full(n, 200),
        "size": np.full(n, 1000),
        "taken": np.full(n, NO_TIME),
        "camera": np.full(n, -1),
        "phash": np.full(n, NO_LOOK),
    }
    return Facts(**{**columns, **{name: np.array(values, np.int64) for name, values in given.items()}})


def test_bytes_that_nobody_has_seen_are_not_the_same():
    assert same_bytes(facts(4, content=[-1, -1, -1, 7])) == []
    assert [group.tolist() for group in same_bytes(facts(5, content=[3, 9, 3, 9, 3]))] == [[0, 2, 4], [1, 3]]


def test_the_ratio_of_the_sides_tells_pictures_apart_but_for_rounding():
    known = facts(5, width=[3000, 1500, 2000, 13, 0], height=[2000, 1000, 3000, 9, 0])
    one, two = np.zeros(4, np.int64), np.array([1, 2, 3, 4])
    assert aspects_fit(known, one, two, Limits()).tolist() == [True, False, True, True]


def test_flat_pictures_are_the_same_only_in_the_same_colour():
    grey = np.full((1, 3072), 100.0, np.float32)
    assert looks_same(grey, grey + 3, Limits()).all() and not looks_same(grey, grey + 60, Limits()).any()


def test_a_burst_needs_the_camera_the_time_and_the_likeness():
    known = facts(7, taken=[10, 12, 14, 14, 40, 42, 44], camera=[1, 1, 1, 2, 1, 1, 1])
    rows = np.eye(3, dtype=np.float32)[[0, 0, 0, 0, 1, 1, 2]]
    groups = bursts(known, np.arange(7), lambda at: rows[at], Limits())
    assert [group.tolist() for group in groups] == [[0, 1, 2], [4, 5]]


def test_pictures_that_drift_away_from_the_first_are_no_burst_with_it():
    angles = np.linspace(0, np.pi / 2, 10)
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    groups = bursts(facts(10, taken=range(10)), np.arange(10), lambda at: rows[at], Limits())
    assert len(groups) > 1
    assert all(rows[group[0]] @ rows[other] >= Limits().burst for group in groups for other in group)


def test_folding_keeps_the_best_of_each_group_first_and_every_picture_once():
    rows = np.eye(4, dtype=np.float32)[[0, 1, 0, 2, 1, 3]]
    assert fold(facts(6), rows, Limits()) == [[0, 2], [1, 4], [3], [5]]
    assert fold(facts(6, height=[200, 200, 900, 200, 200, 200]), rows, Limits())[0] == [0]


# the command


def command(album, capsysbinary, *args):
    code = run(["duplicates", "-i", str(album / "indexes" / "album"), "--near", "0.9", *args])
    out, err = capsysbinary.readouterr()
    return code, out, err.decode()


def test_the_command_prints_groups_and_says_that_nothing_was_deleted(album, capsysbinary):
    code, out, err = command(album, capsysbinary)
    rows = [line.split("\t") for line in out.decode().splitlines()]
    assert code == 0 and rows[0] == ["group", "class", "keep", "pixels", "size", "score", "path"]
    assert [row[1] for row in rows[1:]].count("same picture") == 5
    assert "Nothing was deleted" in err and "besides the ones to keep 1 same bytes, 3 same picture" in err


def test_the_command_prints_json(album, capsysbinary):
    code, out, _ = command(album, capsysbinary, "--json", "--class", "picture")
    *groups, whole = map(json.loads, out.splitlines())
    assert code == 0 and whole["schema"] == "clipsearch.duplicates_result/1" and whole["groups"] == 2
    assert {group["class"] for group in groups} == {"same picture"}
    assert groups[0]["files"][0]["keep"] and groups[0]["files"][0]["path"].endswith("scene1.png")


def test_the_command_prints_only_what_is_not_to_keep(album, capsysbinary):
    _, out, _ = command(album, capsysbinary, "-0", "--class", "bytes")
    (path,) = out.split(b"\0")[:-1]
    assert os.path.basename(path) in (b"scene0.png", b"copy of scene0.png")


def test_a_moved_file_keeps_its_hash(collection, photos):
    def known():
        return {row["phash"] for row in collection._current().snapshot.live_rows("images", COLUMNS)} - {None}

    scene(3).save(photos / "scene.png")
    collection.index(photos)
    (before,) = known()  # the fixture's own rows were written without one
    (photos / "scene.png").rename(photos / "moved.png")
    assert collection.index(photos).reused == 1
    assert known() == {before} and before != 0


def test_folding_knows_a_copy_at_half_the_size_by_its_hash():
    hash_ = 0x5555_5555_5555_5555
    turned = np.array([[1.0, 0.0], [0.85, np.sqrt(1 - 0.85**2)], [0.7, -np.sqrt(1 - 0.7**2)]], np.float32)

    def folded(hashes, **more):
        known = facts(3, phash=hashes, width=[300, 150, 150], height=[200, 100, 100], **more)
        return fold(known, turned, Limits())

    assert folded([hash_, hash_ ^ 0b11, hash_]) == [[0, 1], [2]]  # the third is too far from the first
    assert folded([hash_, hash_ ^ 0b111, 7]) == [[0], [1], [2]]  # three bits, and no file is looked at
    assert folded([NO_LOOK, NO_LOOK, NO_LOOK]) == folded([0, 0, 0]) == [[0], [1], [2]]
    assert folded([hash_, hash_, 7], taken=[100, 900, 100]) == [[0], [1], [2]]  # two frames, not a copy


@pytest.mark.parametrize("seed", range(8))
def test_folding_equals_a_look_at_every_pair(seed):
    rng, n = np.random.default_rng(seed), 60
    near = rng.integers(0, 12, n)
    rows = np.eye(12, dtype=np.float32)[near] + rng.choice([0.01, 0.05, 0.2], n)[:, None] * rng.standard_normal((n, 12))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    known = facts(
        n,
        content=rng.choice([-1, *range(40)], n),
        width=rng.choice([0, 300, 305, 600], n),
        height=rng.choice([200, 400], n),
        taken=rng.choice([NO_TIME, 10, 12, 500], n),
        camera=rng.choice([-1, 1], n),
        phash=rng.choice([0, NO_LOOK, 5, 6, 0x5555], n),
    )
    limits, groups = Limits(), []

    def like(a, b):
        one, two = np.array([a]), np.array([b])
        score = rows[a] @ rows[b]
        same = known.content[a] == known.content[b] >= 0
        twin = twins(known, one, two, np.array([score]), limits) & aspects_fit(known, one, two, limits)
        close = known.camera[a] == known.camera[b] and NO_TIME not in (known.taken[a], known.taken[b])
        burst = close and abs(known.taken[a] - known.taken[b]) <= limits.burst_seconds and score >= limits.burst
        return same or bool(twin[0]) or burst

    for place in range(n):
        found = next((group for group in groups if like(group[0], place)), None)
        groups.append([place]) if found is None else found.append(place)
    assert fold(known, rows, limits) == groups and 10 < len(groups) < n
