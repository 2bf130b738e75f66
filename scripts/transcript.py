"""Run the way from an empty folder to a generated picture that stays out, and write down what the terminal showed.

    python scripts/transcript.py [--generator NAME] [--query TEXT] [--page docs/fill.md]

200 drawings with captions (``draw_demo_pictures.py``) are indexed with the model that ships inside; a query that
matches and one that does not are asked; the second is drawn, by the generator that ships inside where no other is
named, and the picture is put among the drawings. One more is asked that it cannot draw. With ``--page`` the transcript
takes the place of the one in that file, between its two marks; else it is printed. It takes about a minute. What
differs from run to run stands as <...>.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- transcript: scripts/transcript.py -->", "<!-- end of transcript -->"
FOUND, ABSENT, BEYOND = "a red balloon", "an elephant on a purple background", "two dogs playing in the snow"
VARYING = (
    (re.compile(r"\b\d+(?:\.\d+)? s\b"), "<time> s"),
    (re.compile(r"\(?\d+(?:\.\d+)? images/s\)?"), "<rate>"),
    (re.compile(r"\b[0-9a-f]{20}\.generated\.png"), "<name>.generated.png"),
    (re.compile(r'"when": "[^"]*"'), '"when": "<when>"'),
    (re.compile(r"^[0-9a-f]{20}\t\d{4}-\d\d-\d\d \d\d:\d\d\t", re.MULTILINE), "<name>\t<when>\t"),
    (re.compile(r'"sha256": "[0-9a-f]{64}"'), '"sha256": "<digest>"'),
    (re.compile(r'"seconds": [\d.]+'), '"seconds": <time>'),
    (re.compile(r"^  [a-z]+ \d+ %(?:, [a-z]+ \d+ %)*\n", re.MULTILINE), ""),  # said of runs that take a while
)
SHOWN = ("event", "when", "file", "prompt", "generator", "licence", "seed", "tried", "sha256", "signed_by")


def steps(generator=None, absent=ABSENT):
    """Return the commands, as a person would type them."""
    named = [] if generator is None else ["--fill-model", generator]
    return [
        ["clipsearch", "index", "drawings", "--captions", "captions.csv", "--model", "mini", "--jobs", "1"],
        ["clipsearch", "search", FOUND, "-k", "3"],
        ["clipsearch", "search", absent, *named],
        ["clipsearch", "search", absent, "--fill", "auto", *named],
        ["clipsearch", "generated", "list"],
        ["tail", "-n", "1", "indexes/drawings/generated/ledger.jsonl"],
        ["sh", "-c", "cp indexes/drawings/generated/*.generated.png drawings/holiday.png"],
        ["clipsearch", "index", "drawings", "--jobs", "1"],
        ["clipsearch", "generate", BEYOND, *(["--model", generator] if generator else [])],
    ]


def shown(step):
    """Return a command as it stands behind the prompt."""
    return step[2] if step[0] == "sh" else shlex.join(step)


def run(step, folder):
    """Run a command in the folder; returns what it printed, errors and results in their order, and its exit code.

    Weights of other generators on this machine are out of sight.
    """
    step = [sys.executable, "-m", *step] if step[0] == "clipsearch" else step
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", "NO_COLOR": "1"}
    environment["HF_HUB_CACHE"] = os.path.join(folder, "no-weights")
    environment.pop("CLIPSEARCH_INDEXES", None)
    done = subprocess.run(
        step, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.stdout, done.returncode


def transcript(generator=None, absent=ABSENT):
    """Return the lines of the whole way."""
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        drawing = [sys.executable, str(ROOT / "scripts" / "draw_demo_pictures.py"), "drawings", "captions.csv"]
        subprocess.run(drawing, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        for step in steps(generator, absent):
            output, code = run(step, folder)
            output = pretty(output) if step[0] == "tail" else output
            lines.append(f"$ {shown(step)}")
            lines += settled(output, folder).splitlines()
            lines += [f"(exit code {code})", ""] if code else [""]
    return lines[:-1]


def pretty(line):
    """Return the fields of a ledger's row that a person looks at."""
    import json

    row = json.loads(line)
    return "\n".join(["{ ...", *(f"  {json.dumps(n)}: {json.dumps(row[n])}," for n in SHOWN if n in row), "... }"])


def settled(text, folder):
    """Take out what differs from run to run."""
    text = text.replace(os.path.realpath(folder) + "/", "").replace(folder + "/", "")
    for pattern, stand_in in VARYING:
        text = pattern.sub(stand_in, text)
    return text


def put_into(page, lines):
    """Return a page with the transcript between its marks."""
    head, _, rest = page.partition(BEGIN)
    _, mark, tail = rest.partition(END)
    if not mark:
        raise SystemExit(f"The page has no lines {BEGIN} and {END}.")
    block = "\n".join(lines)
    return f"{head}{BEGIN}\n```text\n{block}\n```\n{END}{tail}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", help="By default the one that ships inside, mini.")
    parser.add_argument("--query", default=ABSENT, help="what the drawings have no picture for")
    parser.add_argument("--page", type=Path)
    options = parser.parse_args()
    lines = transcript(options.generator, options.query)
    if options.page is None:
        print("\n".join(lines))
    else:
        options.page.write_text(put_into(options.page.read_text("utf-8"), lines), "utf-8")


if __name__ == "__main__":
    main()
