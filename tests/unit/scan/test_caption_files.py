"""Caption files of every kind, whole and broken; texts beside pictures and inside them."""

import io
import json
import os
import struct
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import clipsearch
from clipsearch.decode.words import read_words
from clipsearch.errors import InputError, SourceNotFoundError
from clipsearch.scan.beside import beside_file, beside_members
from clipsearch.scan.captions import Problems, Said, read_texts

PAIRS = [Said("a.jpg", "a dog"), Said("a.jpg", "an animal"), Said("b.jpg", "a cat")]


def test_every_kind_of_file_says_the_same(tmp_path):
    rows = [{"image": said.image, "caption": said.text} for said in PAIRS]
    several = [{"file_name": "a.jpg", "captions": ["a dog", "an animal"]}, {"file_name": "b.jpg", "text": "a cat"}]
    coco = {
        "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
        "annotations": [{"image_id": 1 + (s.image == "b.jpg"), "caption": s.text} for s in PAIRS],
    }
    (tmp_path / "1.csv").write_text("image,caption\n" + "".join(f"{s.image},{s.text}\n" for s in PAIRS))
    (tmp_path / "2.tsv").write_text("filename\ttext\n" + "".join(f"{s.image}\t{s.text}\n" for s in PAIRS))
    (tmp_path / "3.jsonl").write_text("\n".join(map(json.dumps, several)) + "\n")
    (tmp_path / "4.json").write_text(json.dumps({"a.jpg": ["a dog", "an animal"], "b.jpg": "a cat"}))
    (tmp_path / "5.json").write_text(json.dumps(rows))
    (tmp_path / "6.json").write_text(json.dumps(coco))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "7.parquet")
    lists = {"path": ["a.jpg", "b.jpg"], "captions": [["a dog", "an animal"], ["a cat"]]}
    pq.write_table(pa.table(lists), tmp_path / "8.parquet")
    for file in sorted(tmp_path.iterdir()):
        assert list(read_texts(file)) == PAIRS, file.name


def test_a_caption_bank_names_no_pictures(tmp_path):
    (tmp_path / "a.txt").write_text("a dog\n\n  a cat \n")
    (tmp_path / "b.csv").write_text("caption\na dog\na cat\n")
    (tmp_path / "c.jsonl").write_text('"a dog"\n{"text": "a cat"}\n')
    for file in sorted(tmp_path.iterdir()):
        assert list(read_texts(file)) == [Said(None, "a dog"), Said(None, "a cat")], file.name


def test_broken_json_on_line_317_costs_that_line_and_is_named(tmp_path):
    lines = [json.dumps({"image": f"{n}.jpg", "caption": f"number {n}"}) for n in range(1, 501)]
    lines[316] = '{"image": "317.jpg", "caption": '
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    problems = Problems()
    found = list(read_texts(tmp_path / "a.jsonl", problems))
    assert len(found) == 499 and found[316].text == "number 318"
    (note,) = problems.notes("a.jsonl")
    assert "line 317 (broken JSON" in note and "Everything else was read" in note


def test_what_is_no_file_of_captions_is_refused_with_a_reason(tmp_path):
    with pytest.raises(SourceNotFoundError, match="no caption file"):
        list(read_texts(tmp_path / "absent.csv"))
    (tmp_path / "a.csv").write_text("picture,words\nx,y\n")
    with pytest.raises(InputError, match="has no columns image and caption, but picture, words"):
        list(read_texts(tmp_path / "a.csv"))
    (tmp_path / "a.json").write_text('{"a.jpg": ')
    with pytest.raises(InputError, match="broken JSON"):
        list(read_texts(tmp_path / "a.json"))
    (tmp_path / "a.parquet").write_text("no parquet")
    with pytest.raises(InputError, match="cannot be read"):
        list(read_texts(tmp_path / "a.parquet"))


def test_texts_beside_a_picture_are_found_and_broken_ones_named(tmp_path):
    (tmp_path / "a.txt").write_text("a dog\nan animal\n")
    (tmp_path / "a.jpg.json").write_text('{"caption": "a dog", "title": "unused"}')
    (tmp_path / "b.json").write_text("{")
    problems = Problems()
    assert beside_file(bytes(tmp_path / "a.jpg"), problems) == ["a dog", "an animal"]
    assert beside_file(bytes(tmp_path / "b.jpg"), problems) == []
    assert problems.count == 1 and "b.json (broken JSON" in problems.named[0]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["dog", "beach", "dog", "", None, 2019], "dog, beach, 2019"),
        ("dog, beach;summer  2019 ,", "dog, beach, summer 2019"),
        (["a dog, running", "beach"], "a dog, running, beach"),
        ({"dog": 1}, None),
        ([], None),
    ],
)
def test_keywords_beside_a_picture_become_one_text_as_those_inside_do(tmp_path, given, said):
    (tmp_path / "a.json").write_text(json.dumps({"caption": "a dog at the sea", "keywords": given}))
    (tmp_path / "b.json").write_text(json.dumps({"keywords": given}))
    problems = Problems()
    wanted = [] if said is None else [said]
    assert beside_file(os.fsencode(tmp_path / "a.jpg"), problems) == ["a dog at the sea", *wanted]
    assert beside_file(os.fsencode(tmp_path / "b.jpg"), problems) == wanted
    assert not problems.count


def test_keywords_are_the_same_text_beside_a_picture_and_inside_it(tmp_path):
    photo = tmp_path / "a.jpg"
    Image.new("RGB", (8, 8)).save(photo)
    items = "".join(f"<rdf:li>{word}</rdf:li>" for word in ("dog", "beach"))
    packet = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<dc:subject><rdf:Bag>{items}</rdf:Bag></dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>"
    )
    photo.write_bytes(photo.read_bytes() + packet.encode())
    (tmp_path / "a.json").write_text('{"keywords": "dog;beach"}')
    with clipsearch.create(tmp_path / "collection", model="hashing") as collection:
        collection.index(tmp_path, captions=["sidecars", "embedded"])
        texts = collection.search("dog, beach", target="text", k=5)
    assert [hit.text for hit in texts] == ["dog, beach"]  # one row of two origins


def test_texts_in_a_webdataset_tar_belong_to_the_picture_of_their_key(tmp_path):
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for name, data in (("x/1.jpg", b"p"), ("x/1.txt", b"a dog"), ("x/2.jpg", b"p"), ("y/2.txt", b"not this one")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    found = dict(beside_members(bytes(tmp_path / "s.tar"), [b"x/1.jpg", b"x/2.jpg"], Problems()))
    assert found == {b"x/1.jpg": ["a dog"]}


def iptc(fields):
    return b"".join(b"\x1c" + bytes(key) + struct.pack(">H", len(value)) + value for key, value in fields)


def jpeg(fields=(), xmp=b""):
    plain = io.BytesIO()
    Image.new("RGB", (8, 8)).save(plain, "JPEG")
    data = plain.getvalue()
    parts = b""
    if fields:
        block = iptc(fields)
        resource = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(block)) + block + b"\0" * (len(block) % 2)
        payload = b"Photoshop 3.0\0" + resource
        parts += b"\xff\xed" + struct.pack(">H", len(payload) + 2) + payload
    if xmp:
        payload = b"http://ns.adobe.com/xap/1.0/\0" + xmp
        parts += b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload
    return data[:2] + parts + data[2:]


def packet(body):
    return (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/">'
        + body
        + b"</rdf:Description></rdf:RDF></x:xmpmeta>"
    )


def test_iptc_captions_and_keywords_are_read_as_pillow_reads_them():
    fields = [((2, 120), b"A dog at the sea"), ((2, 25), b"dog"), ((2, 25), b"sea"), ((2, 5), b"Holiday")]
    data = jpeg(fields)
    assert read_words(data) == (["A dog at the sea", "Holiday"], ["dog", "sea"])
    from PIL import IptcImagePlugin

    info = IptcImagePlugin.getiptcinfo(Image.open(io.BytesIO(data)))
    assert info is not None and info[(2, 120)] == b"A dog at the sea" and info[(2, 25)] == [b"dog", b"sea"]


def test_xmp_captions_and_keywords_are_read():
    body = (
        b'<dc:description><rdf:Alt><rdf:li xml:lang="x-default">Two &amp; three</rdf:li></rdf:Alt></dc:description>'
        b"<dc:subject><rdf:Bag><rdf:li>dog</rdf:li><rdf:li>sea</rdf:li></rdf:Bag></dc:subject>"
    )
    assert read_words(jpeg(xmp=packet(body))) == (["Two & three"], ["dog", "sea"])
    assert read_words(b"\x89PNG...." + packet(body))[1] == ["dog", "sea"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8\xff\xed",
        b"\xff\xd8\xff\xed\x00\x00",
        jpeg([((2, 120), b"a longer caption")])[:48],
        b"<x:xmpmeta><broken></x:xmpmeta>",
        b'<!DOCTYPE a [<!ENTITY b "c">]><x:xmpmeta><!ENTITY b "c">&b;</x:xmpmeta>',
    ],
)
def test_what_makes_no_sense_is_left_out(data):
    assert read_words(data) == ([], [])
