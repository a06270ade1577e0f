"""`prepare` on miniatures of every registered dataset: what it prints, and that it only reads."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextvars import copy_context
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dinorad_rt.cli.verbs import app
from dinorad_rt.datasets import registry
from dinorad_rt.errors import DinoradError
from tests.datasets.miniatures import WRITERS

Prepare = Callable[..., dict[str, object]]


@pytest.fixture
def prepare(cache: Path) -> Prepare:
    """Run the verb and read its JSON."""

    def run(*words: str) -> dict[str, object]:
        arguments = ["prepare", *words, "--json"]
        done = copy_context().run(CliRunner().invoke, app, arguments)
        if isinstance(done.exception, DinoradError):
            raise done.exception
        assert done.exit_code == 0, done.output
        document: dict[str, object] = json.loads(done.stdout)
        document["said"] = done.stderr
        return document

    return run


_WATCHED: list[tuple[str, list[str]]] = []
_CHANGES = (
    "os.rename os.remove os.rmdir os.mkdir os.chmod os.chown os.utime os.link os.symlink "
    "os.truncate shutil.move shutil.rmtree shutil.copyfile"
).split()


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    """An audit hook cannot be taken off: it looks only where a test watches a folder."""
    for root, seen in _WATCHED:
        inside = any(isinstance(one, str | bytes) and root in str(one) for one in arguments)
        if not inside:
            continue
        writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        if event in _CHANGES or (event == "open" and int(arguments[2] or 0) & writes):  # type: ignore[call-overload]
            seen.append(f"{event} {arguments[0]}")


sys.addaudithook(_watch)


@pytest.fixture
def attempts() -> Iterator[Callable[[Path], list[str]]]:
    """Every attempt to write, move or delete below a folder, from the call on; a read-only folder
    would only show those that root may not make."""

    def watch(root: Path) -> list[str]:
        seen: list[str] = []
        _WATCHED.append((str(root), seen))
        return seen

    yield watch
    _WATCHED.clear()


def tree_of(root: Path) -> dict[str, tuple[int, int, int, bytes]]:
    found = {}
    for path in sorted([root, *root.rglob("*")]):
        status = path.stat()
        content = b"" if path.is_dir() else hashlib.sha256(path.read_bytes()).digest()
        found[str(path)] = (status.st_mode, status.st_size, status.st_mtime_ns, content)
    return found


@pytest.mark.parametrize("name", WRITERS)
def test_every_registered_set_is_prepared_and_left_alone(
    tmp_path: Path, prepare: Prepare, attempts: Callable[[Path], list[str]], name: str
) -> None:
    root = tmp_path / "download"
    WRITERS[name](root)
    before, tried = tree_of(root), attempts(root)
    first, second = prepare(name, "--root", str(root)), prepare(name, "--root", str(root))
    assert tree_of(root) == before and tried == []
    assert first["name"] == name and first["images"]
    counts = [n for splits in first["samples_per_class"].values() for n in splits.values()]
    assert any(counts)
    assert {k: v for k, v in first.items() if k != "said"} == {
        k: v for k, v in second.items() if k != "said"
    }


def test_the_watch_sees_changes(tmp_path: Path, attempts: Callable[[Path], list[str]]) -> None:
    tried = attempts(tmp_path)
    (tmp_path / "a").write_text("x")
    (tmp_path / "a").read_text()
    (tmp_path / "a").rename(tmp_path / "b")
    (tmp_path / "b").unlink()
    assert [one.split()[0] for one in tried] == ["open", "os.rename", "os.remove"]


def test_official_files_are_known_by_their_md5(
    tmp_path: Path, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    WRITERS["pneumoniamnist"](tmp_path)
    content = (tmp_path / "pneumoniamnist.npz").read_bytes()
    digest = hashlib.md5(content).hexdigest()
    found = prepare("pneumoniamnist", "--root", str(tmp_path))
    assert found["checksums"] == {"pneumoniamnist.npz": f"other: {digest}"}
    entries = registry.all_entries()
    ours = replace(entries["pneumoniamnist"], files={"pneumoniamnist.npz": digest})
    monkeypatch.setitem(entries, "pneumoniamnist", ours)
    found = prepare("pneumoniamnist", "--root", str(tmp_path))
    assert found["checksums"] == {"pneumoniamnist.npz": "official"}


def test_real_md5(shared_data: Path) -> None:
    """The stored archive lacks its test arrays, so it is not the official one, and that is told."""
    source = shared_data / "medmnist" / "adrenalmnist3d_64_trainval.npz"
    entry = registry.entry_named("adrenalmnist3d_64")
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "md5").hexdigest()
    assert digest not in entry.files.values()


def test_splits_are_written_and_followed(tmp_path: Path, prepare: Prepare) -> None:
    WRITERS["rsna-pneumonia"](tmp_path / "rsna")
    root, out = str(tmp_path / "rsna"), tmp_path / "out"
    made = prepare("rsna-pneumonia", "--root", root, "--out", str(out), "--seed", "3")
    text = (out / "splits.csv").read_text()
    assert text.startswith("sample,patient,split\n") and "aaaa-bbbb" not in text
    other = prepare("rsna-pneumonia", "--root", root)
    followed = prepare("rsna-pneumonia", "--root", root, "--splits", str(out))
    assert followed["split_hash"] == made["split_hash"] != other["split_hash"]
    prepare("rsna-pneumonia", "--root", root, "--out", str(out), "--keep-identifiers")
    assert "aaaa-bbbb" in (out / "splits.csv").read_text()


def test_burned_in_text_is_warned_of(tmp_path: Path, prepare: Prepare) -> None:
    import pydicom

    WRITERS["rsna-pneumonia"](tmp_path)
    for path in sorted((tmp_path / "stage_2_train_images").iterdir())[:3]:
        dataset = pydicom.dcmread(path)
        dataset.BurnedInAnnotation = "YES"
        dataset.save_as(path)
    found = prepare("rsna-pneumonia", "--root", str(tmp_path))
    assert found["burned_in_annotation"] == 3
    assert "3 DICOM images say that text is burned into their pixels" in str(found["said"])


def test_one_of_name_and_data_is_needed(tmp_path: Path, prepare: Prepare) -> None:
    with pytest.raises(DinoradError, match="one of the two only"):
        prepare()
    with pytest.raises(DinoradError, match="one of the two only"):
        prepare("montgomery", "--data", str(tmp_path))


def test_the_users_own_masks(shared_data: Path, prepare: Prepare) -> None:
    found = prepare("--data", str(shared_data / "mr_hippocampus3d"))
    assert found["task"] == "segmentation"
    assert found["samples_per_class"] == {"class 1": {"all": 100}, "class 2": {"all": 100}}
    named = prepare(
        "--data",
        str(shared_data / "cxr_montgomery_tb_lung"),
        "--task",
        "segmentation",
        "--class-names",
        "background,lung",
    )
    assert named["classes"] == ["background", "lung"]
