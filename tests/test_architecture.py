"""The house rules that a machine can check: import contracts, light imports, a true public surface."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import clipsearch

PACKAGE = Path(clipsearch.__file__).parent
HEAVY = ("torch", "faiss", "pyarrow", "duckdb", "PIL", "onnxruntime", "open_clip", "pandas", "ray")


def loaded_after(code: str) -> set[str]:
    """Run code in a fresh interpreter and return the names of the heavy modules it loaded."""
    report = f"import sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True)
    return set(ast.literal_eval(done.stdout.strip().splitlines()[-1]))


def test_rooms_do_not_import_each_other():
    pytest.importorskip("importlinter")
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        capture_output=True,
        text=True,
        cwd=PACKAGE.parent,
    )
    assert done.returncode == 0, done.stdout


def test_importing_the_package_loads_nothing_heavy():
    assert loaded_after("import clipsearch") == set()


def test_help_loads_nothing_heavy():
    assert loaded_after("import clipsearch.cli\nclipsearch.cli.run(['--help'])") == set()


def test_public_names_are_sorted_and_exist():
    assert sorted(clipsearch.__all__) == list(clipsearch.__all__)
    for name in clipsearch.__all__:
        assert getattr(clipsearch, name) is not None


def test_no_public_name_is_the_name_of_a_room():
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir()}
    assert not rooms & set(clipsearch.__all__)


FORBIDDEN_CALLS = {
    "import pickle": "pickle can run code",
    "allow_pickle=True": "pickle can run code",
    "trust_remote_code=True": "runs code of others",
    "shell=True": "a file name may hold a command",
    "os.rename(": "os.replace is the atomic one on every system",
}


@pytest.mark.parametrize("text", FORBIDDEN_CALLS)
def test_the_package_never_uses(text):
    users = [str(path) for path in PACKAGE.rglob("*.py") if text in path.read_text(encoding="utf-8")]
    assert not users, f"{text}: {FORBIDDEN_CALLS[text]}"


def calls(name: str) -> list[tuple[Path, ast.Call]]:
    """Return all calls of a dotted name in the package."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == name:
                found.append((path, node))
    return found


def test_pictures_are_opened_with_a_list_of_allowed_formats():
    for path, call in calls("Image.open"):
        assert any(keyword.arg == "formats" for keyword in call.keywords), f"{path}:{call.lineno}"


def test_torch_loads_weights_only():
    for path, call in calls("torch.load"):
        assert any(keyword.arg == "weights_only" for keyword in call.keywords), f"{path}:{call.lineno}"
