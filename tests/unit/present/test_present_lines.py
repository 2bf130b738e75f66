"""Paths and JSON Lines for other programs."""

import base64
import json
import os
from datetime import datetime

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from clipsearch.present.json_lines import dump, hit_object, path_fields, result_object, skip_lines
from clipsearch.present.paths import nearest, path_lines
from clipsearch.types import Hit, SearchResult, Skip, SkipReason


def answer(*hits: Hit, target: str = "image", notes: tuple[str, ...] = ()) -> SearchResult:
    ids = np.array([hit.id for hit in hits], dtype=np.int64)
    return SearchResult(ids, ids.astype(np.float32), hits, target=target, notes=notes)


@given(st.lists(st.binary(min_size=1, max_size=30).filter(lambda b: b"\0" not in b), unique=True, max_size=8))
def test_paths_come_out_byte_for_byte(names):
    hits = [Hit(rank, rank, os.fsdecode(name), 0.1) for rank, name in enumerate(names, 1)]
    assert b"".join(path_lines(answer(*hits), b"\0")).split(b"\0")[:-1] == names


def test_an_image_with_several_captions_comes_once_and_a_caption_without_image_not_at_all():
    hits = [Hit(1, 1, "/a.jpg", 0.3, "x"), Hit(2, 2, "", 0.3, "y"), Hit(3, 3, "/a.jpg", 0.2, "z")]
    assert list(path_lines(answer(*hits, target="text"))) == [b"/a.jpg\n"]


def test_a_path_is_relative_only_where_that_is_shorter():
    assert nearest("/home/anna/a.jpg", "/home/anna") == "a.jpg"
    assert nearest("/mnt/a.jpg", "/home/anna/photos/2019") == "/mnt/a.jpg"
    assert nearest("", "/home") == ""


@given(st.binary(min_size=1, max_size=40).filter(lambda b: b"\0" not in b))
def test_the_true_bytes_of_a_name_can_be_had_from_json(raw):
    fields = json.loads(dump(path_fields(os.fsdecode(raw))))
    assert (base64.b64decode(fields["path_b64"]) if "path_b64" in fields else fields["path"].encode()) == raw
    assert ("path_b64" in fields) == (raw.decode("utf-8", "ignore").encode() != raw)


def test_a_hit_has_its_schema_and_only_what_is_known():
    taken = datetime(2024, 5, 6, 7, 8, 9)
    known = {"width": 640, "height": 480, "taken": taken, "camera": None, "size": 99, "tags": ["dog"]}
    hit = Hit(1, 7, "/p/a.jpg", 0.3123456789, None, known)
    assert json.loads(dump(hit_object(hit, "dog"))) == {
        "schema": "clipsearch.hit/1",
        "query": "dog",
        "rank": 1,
        "id": 7,
        "score": 0.312346,
        "path": "/p/a.jpg",
        "width": 640,
        "height": 480,
        "taken": "2024-05-06T07:08:09",
        "tags": ["dog"],
    }


def test_an_answer_says_what_holds_for_all_its_hits():
    whole = result_object(
        answer(notes=("be careful",)), "x", model="mini", collection="photos", version=3, parts={"add": ["y"]}
    )
    assert json.loads(dump(whole)) == {
        "schema": "clipsearch.result/1",
        "query": "x",
        "add": ["y"],
        "target": "image",
        "hits": 0,
        "verdict": "uncalibrated",
        "p_value": None,
        "levels": {},
        "why": None,
        "model": "mini",
        "collection": "photos",
        "version": 3,
        "notes": ["be careful"],
        "generated": [],
    }


def test_json_has_neither_nan_nor_broken_characters():
    line = dump({"a": float("nan"), "b": float("inf"), "c": os.fsdecode(b"\xff"), "d": {"e": ["ü", 1.5]}})
    assert json.loads(line) == {"a": None, "b": None, "c": "\\xff", "d": {"e": ["ü", 1.5]}}
    assert "ü" in line and "\n" not in line


def test_a_skip_is_reported_with_its_reason_and_its_place_in_a_tar():
    skips = [
        Skip(b"a/\xff.jpg", SkipReason.TRUNCATED, "12 bytes short"),
        Skip(b"s.tar", SkipReason.EMPTY, "", b"b.jpg"),
    ]
    first, second = map(json.loads, skip_lines(skips))
    assert first == {
        "schema": "clipsearch.skip/1",
        "path": "a/\\xff.jpg",
        "path_b64": base64.b64encode(b"a/\xff.jpg").decode(),
        "reason": "truncated",
        "detail": "12 bytes short",
    }
    assert (second["path"], second["member"], second["reason"]) == ("s.tar", "b.jpg", "empty")
