"""The tokenizer without torch against open_clip's own, id for id."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipsearch.embed.clip_tokens import CLEANERS, ClipTokens

tokenizer = pytest.importorskip("open_clip.tokenizer")
if not hasattr(tokenizer, "SimpleTokenizer"):
    pytest.skip("open_clip cannot be imported", allow_module_level=True)

TEXTS = [
    "a dog",
    "",
    " ",
    "\t a  dog \n runs\r\n",
    "The Man's dog isn't hers; they'll, we've, I'M, you'd, 'S",
    "1234 5 6.7 50% $3 #tag a_b C-3PO",
    "!!! ... --- ?! (a) [b] {c} <d> /e/ \\f\\ ~g~ `h` ^i^ |j|",
    "<start_of_text> a <end_of_text> b",
    "<START_OF_TEXT> A <End_Of_Text>",
    "&lt;b&gt; &amp;amp; Tom &amp; Jerry &EACUTE; &copy &#39;",
    "a < b & c > d",
    "Zürich – été; 日本 한국어 العربية हिन्दी ไทย",
    "œuf ﬁsh ｆｕｌｌ Ⅷ ½ ² ſ K İ ı ß",
    "ÃƒÂ¼ber schÃ¶n â€œquotedâ€\x9d",  # broken encodings, which ftfy repairs
    "\x00\x01\x1b[31mred\x1b[0m\x7f\x85\u2028\ufeff\ufffd",
    "😀👨‍👩‍👧‍👦🏳️‍🌈 e\u0301 \u200b zero",
    "supercalifragilisticexpialidocious antidisestablishmentarianism aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "word " * 500,
    "photo of " + "x" * 3000,
]


@pytest.fixture(scope="module", params=sorted(CLEANERS))
def both(request):
    """open_clip's tokenizer, and ours with its vocabulary."""
    theirs = tokenizer.SimpleTokenizer(clean=request.param)
    ranks = theirs.bpe_ranks
    vocabulary = "\n".join(" ".join(pair) for pair in sorted(ranks, key=ranks.__getitem__))
    return theirs, ClipTokens(vocabulary, 77, request.param)


def padded(ids, length=77):
    return np.pad(ids, ((0, 0), (0, length - ids.shape[1])))


def test_every_text_gets_open_clips_ids(both):
    theirs, ours = both
    np.testing.assert_array_equal(padded(ours(TEXTS)), theirs(TEXTS).numpy())
    for text in TEXTS:
        assert ours.encode(text) == theirs.encode(text)
    assert (ours.start, ours.end) == (theirs.sot_token_id, theirs.eot_token_id)


@settings(max_examples=300, deadline=None)
@given(text=st.text(st.characters(codec="utf-8"), max_size=60))
def test_any_text_gets_open_clips_ids(both, text):
    theirs, ours = both
    assert ours.encode(text) == theirs.encode(text)


@settings(max_examples=300, deadline=None)
@given(text=st.text(st.characters(max_codepoint=127), max_size=60))
def test_any_ascii_text_gets_open_clips_ids(both, text):
    theirs, ours = both
    assert ours.encode(text) == theirs.encode(text)


def test_every_single_character_of_the_first_planes_gets_open_clips_ids(both):
    theirs, ours = both
    for start in range(0, 0x3400, 64):
        text = " ".join(map(chr, range(start, start + 64)))
        assert ours.encode(text) == theirs.encode(text), hex(start)


def test_real_captions_get_open_clips_ids(both, test_data):
    import csv

    with open(test_data / "flickr8k" / "dev.csv", encoding="utf-8", newline="") as file:
        captions = [row["caption"] for row in csv.DictReader(file)]
    theirs, ours = both
    np.testing.assert_array_equal(padded(ours(captions)), theirs(captions).numpy())


def test_a_text_is_as_long_as_it_is_and_no_longer_than_the_context(both):
    _, ours = both
    assert ours(["a dog"]).tolist() == [[ours.start, *ours.encode("a dog"), ours.end]]
    long = ours(["word " * 500])
    assert long.shape == (1, 77)
    assert long[0, -1] == ours.end
    assert ours([]).shape == (0, 0)


def test_an_ordinary_query_needs_no_other_package(both, tmp_path):
    _, ours = both
    (tmp_path / "v.txt").write_text("\n".join(ours._ranks), encoding="utf-8")
    code = (
        "import sys; from clipsearch.embed.clip_tokens import ClipTokens\n"
        f"ClipTokens(open({str(tmp_path / 'v.txt')!r}, encoding='utf-8').read(), 77)(['A dog, isn\\'t it?'])\n"
        "print([m for m in ('torch', 'open_clip', 'ftfy', 'regex') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
