"""`dinorad-rt cache`: list, verify, prune, as a user calls them."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from dinorad_rt.backbones.load import load_backbone
from dinorad_rt.cli.cache import parse_age, parse_size
from dinorad_rt.cli.verbs import app
from dinorad_rt.engines.build import get_or_build
from dinorad_rt.engines.manifest import Engine
from dinorad_rt.engines.profile import Profile
from dinorad_rt.errors import UnknownNameError
from dinorad_rt.export.onnx_export import export_onnx
from dinorad_rt.paths import cache_dir


def _run(*words: str) -> Result:
    return CliRunner().invoke(app, ["cache", *words], catch_exceptions=False)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with a graph and an engine, made once."""
    root = tmp_path_factory.mktemp("filled")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DINORAD_RT_CACHE", str(root))
        graph = export_onnx(load_backbone("test_vit", weights="random", image_size=32))
        get_or_build(graph, backend="onnxruntime", profile=Profile("test", batch=1, threads=1))
    return root


@pytest.fixture
def engine(filled: Path, cache: Path) -> Engine:
    """The engine in a copy of that cache, for one test."""
    shutil.copytree(filled, cache)
    (folder,) = (path.parent for path in cache.glob("engines/*/engine.json"))
    return Engine.open(folder)


def test_list_says_what_it_is_and_its_size(engine: Engine) -> None:
    document = json.loads(_run("list", "--json").stdout)
    rows = {row["kind"]: row for row in document["entries"]}
    assert set(rows) == {"graphs", "engines", "references"}
    assert rows["engines"]["name"] == engine.key
    assert rows["engines"]["about"] == "test_vit fp32 onnxruntime random"
    on_disk = sum(path.stat().st_size for path in engine.folder.iterdir())
    assert rows["engines"]["size"] == on_disk
    assert "test_vit fp32" in _run("list").stdout


def test_verify_finds_a_changed_byte_and_removes_on_request(engine: Engine) -> None:
    assert _run("verify").exit_code == 0
    (name,) = (name for name in engine.files if name.endswith(".onnx"))
    path = engine.file(name)
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(bytes(content))
    done = _run("verify", "--json")
    assert done.exit_code == 1
    (damage,) = json.loads(done.stdout)["damaged"]
    assert (damage["kind"], damage["name"]) == ("engines", engine.key)
    assert _run("verify", "--remove").exit_code == 0
    assert not engine.folder.exists()
    assert _run("verify").exit_code == 0


def test_prune_by_kind_age_and_size(engine: Engine) -> None:
    assert _run("prune", "--older-than", "1d", "--yes").stdout == "Freed 0.0 MB.\n"
    assert engine.folder.exists()
    long_ago = time.time() - 2 * 86_400
    for path in engine.folder.iterdir():
        os.utime(path, (long_ago, long_ago))
    _run("prune", "--older-than", "1d", "--yes")
    assert not engine.folder.exists()
    assert list(cache_dir("graphs").glob("*/graph.json"))
    _run("prune", "references", "--yes")
    assert not list(cache_dir("references").iterdir())
    _run("prune", "--keep", "1k", "--yes")
    assert not list(cache_dir("graphs").glob("*/graph.json"))


def test_prune_asks_first(engine: Engine) -> None:
    done = CliRunner().invoke(app, ["cache", "prune", "engines"], input="n\n")
    assert done.exit_code == 1
    assert engine.folder.exists()
    old = CliRunner().invoke(app, ["cache", "prune", "engines", "--older-than", "1d"])
    assert old.exit_code == 0 and old.stdout == "Freed 0.0 MB.\n"  # nothing to ask about


def test_keys_are_never_pruned(cache: Path) -> None:
    key = cache_dir("keys") / "pseudonyms.key"
    key.write_bytes(b"secret")
    _run("prune", "--yes")
    assert key.read_bytes() == b"secret"


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (parse_age, "30d", 30 * 86_400),
        (parse_age, "12h", 12 * 3_600),
        (parse_size, "20G", 20 * 10**9),
        (parse_size, "1.5MB", 1_500_000),
        (parse_size, "17", 17),
    ],
)
def test_ages_and_sizes(parse: Callable[[str], Any], text: str, value: float) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(("parse", "text"), [(parse_age, "soon"), (parse_size, "20 elephants")])
def test_other_words_are_refused_with_an_example(parse: Callable[[str], Any], text: str) -> None:
    with pytest.raises(UnknownNameError, match="is not understood") as caught:
        parse(text)
    assert "Example" in caught.value.fix
