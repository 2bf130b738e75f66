import json
from pathlib import Path

import pytest
from store_rows import new_store

from clipsearch.errors import CorruptShardError, FormatVersionError
from clipsearch.store import FORMAT_VERSION, Store, schema
from clipsearch.store.files import sha256


def rewrite(store: Store, **changes) -> None:
    manifest = Path(store.path, "manifests", "v000002.json")
    document = {**json.loads(manifest.read_bytes()), **changes}
    data = json.dumps(document).encode()
    manifest.write_bytes(data)
    Path(store.path, "CURRENT").write_text(f"v000002.json sha256:{sha256(data)}\n")


def test_a_newer_format_is_refused_and_both_versions_are_named(tmp_path):
    store = new_store(tmp_path / "a", n=1)
    rewrite(store, format_version=FORMAT_VERSION + 6, something_new=1)
    with pytest.raises(FormatVersionError, match=rf"version {FORMAT_VERSION + 6}.*up to {FORMAT_VERSION}") as error:
        Store.open(store.path)
    assert len(str(error.value).splitlines()) <= 3


@pytest.mark.parametrize("version", [0, -1, "1", None, 1.5])
def test_a_format_version_that_is_none_is_damage(tmp_path, version):
    store = new_store(tmp_path / "a", n=1)
    rewrite(store, format_version=version)
    with pytest.raises(CorruptShardError):
        Store.open(store.path)


def test_upgrades_run_in_order_from_the_version_found():
    upgrades = {n: lambda document, n=n: {**document, "steps": [*document.get("steps", []), n]} for n in (1, 2, 3)}
    upgraded = schema.upgrade({"format_version": 2}, "here", to=4, upgrades=upgrades)
    assert upgraded == {"format_version": 4, "steps": [2, 3]}
    assert schema.upgrade({"format_version": 4}, "here", to=4, upgrades=upgrades) == {"format_version": 4}
    with pytest.raises(CorruptShardError, match="step 1"):
        schema.upgrade({"format_version": 1}, "here", to=3, upgrades={2: upgrades[2]})


def test_there_is_an_upgrade_for_every_former_format():
    assert set(schema.UPGRADES) == set(range(1, FORMAT_VERSION))


def test_a_collection_of_an_older_format_opens_through_its_upgrades(tmp_path, monkeypatch):
    store = new_store(tmp_path / "a", n=1)
    document = json.loads(Path(store.path, "manifests", "v000002.json").read_bytes())
    rewrite(store, dimension=document["dim"])
    renamed = {1: lambda old: {name: value for name, value in old.items() if name != "dimension"}}
    monkeypatch.setattr(schema.upgrade, "__defaults__", (2, renamed))
    manifest = Store.open(store.path).snapshot().manifest
    assert manifest.dim == document["dim"]
    assert manifest.format_version == 2
