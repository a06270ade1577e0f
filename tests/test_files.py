"""Files and folders appear whole or not at all, and nobody's folder is taken."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from dinorad_rt.errors import NoSpaceError, OutputError, OutputExistsError
from dinorad_rt.files import (
    atomic_folder,
    atomic_path,
    claim_output_dir,
    held_lock,
    only_writer,
    space_errors_named,
    write_once,
)
from dinorad_rt.paths import cache_dir


def test_a_folder_appears_when_its_block_has_succeeded(tmp_path: Path) -> None:
    target = tmp_path / "above" / "out"
    with atomic_folder(target) as part:
        (part / "file").write_text("x")
        assert not target.exists()
    assert [path.name for path in target.parent.iterdir()] == ["out"]
    assert (target / "file").read_text() == "x"
    assert target.stat().st_mode & 0o777 == (tmp_path / "above").stat().st_mode & 0o777


def test_a_block_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(NoSpaceError, match="nothing half-written"), atomic_folder(tmp_path / "out"):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(PermissionError), atomic_folder(tmp_path / "out"):
        raise PermissionError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_filled_and_stays_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o750)
    before = tmp_path.stat()
    (tmp_path / ".facts.json.0.part").touch()  # one was killed here
    (tmp_path / ".facts.json.0.parts").mkdir()
    with atomic_folder(Path("."), "facts.json") as part:
        (part / "facts.json").write_text("{}")
        (part / "graph").mkdir()
        assert not (tmp_path / "facts.json").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["facts.json", "graph"]
    after = tmp_path.stat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    with (
        pytest.raises(OutputExistsError, match="not empty any more"),
        atomic_folder(tmp_path, "facts.json") as part,
    ):
        (part / "facts.json").write_text("other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["facts.json", "graph"]
    assert (tmp_path / "facts.json").read_text() == "{}"


def test_a_lock_that_cannot_be_made_names_its_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(OutputError, match=r"Cannot write key\.lock in .*file: "),
        held_lock(tmp_path / "file" / "key.lock", lambda: None),
    ):
        pass


@pytest.mark.filterwarnings("ignore:flock not supported")
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_worked_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def refuse(handle: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    done = []
    with held_lock(tmp_path / "key.lock", lambda: pytest.fail("nobody is waited for")):
        with atomic_path(tmp_path / "file") as part:
            part.write_text("x")
        done.append(True)
    assert done and (tmp_path / "file").read_text() == "x"


def test_the_marker_of_a_folder_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[str] = []
    rename = Path.rename
    monkeypatch.setattr(
        Path, "rename", lambda path, to: (moved.append(path.name), rename(path, to))[1]
    )
    with atomic_folder(tmp_path, "a") as part:
        for name in ("a", "b", "c"):
            (part / name).touch()
    assert moved[-1] == "a" and sorted(moved) == ["a", "b", "c"]


def test_a_folder_of_ours_is_accepted_and_another_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    assert claim_output_dir(folder, "facts.json") == folder and folder.is_dir()
    (folder / ".facts.json.k3f.part").touch()  # another process is about to make it its own
    claim_output_dir(folder, "facts.json")
    (folder / "rows.parquet").touch()  # one was killed after the first of its two files
    (folder / ".rows.parquet.0.part").touch()
    claim_output_dir(folder, "facts.json", "rows.parquet")
    with pytest.raises(OutputExistsError, match=r"holds no facts\.json"):
        claim_output_dir(folder, "facts.json")
    (folder / "notes.txt").touch()
    with pytest.raises(OutputExistsError, match=r"holds no facts\.json"):
        claim_output_dir(folder, "facts.json", "rows.parquet")
    (folder / "facts.json").touch()
    claim_output_dir(folder, "facts.json")
    with pytest.raises(OutputExistsError, match="a file, not a folder"):
        claim_output_dir(folder / "notes.txt", "facts.json")


def test_the_caches_own_folders_are_no_place_for_an_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the cache beside the results: `embed --out /scratch/me/embeddings`."""
    monkeypatch.setenv("DINORAD_RT_CACHE", str(tmp_path))
    with pytest.raises(OutputExistsError, match="cache's own folder of embeddings") as caught:
        claim_output_dir(tmp_path / "embeddings", "store.json")
    assert "another --out" in caught.value.fix
    assert list(tmp_path.iterdir()) == []
    claim_output_dir(tmp_path / "results", "store.json")
    claim_output_dir(cache_dir("embeddings") / "key", "store.json")


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_folder_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refused(self: Path, *_: object, **__: object) -> None:
        raise OSError(number, "refused", str(self))

    monkeypatch.setattr(Path, "mkdir", refused)
    target = tmp_path / "out"
    with pytest.raises(OutputError, match=r"Cannot write out in .*: refused") as caught:
        claim_output_dir(target, "facts.json")
    assert "--out" in caught.value.fix
    with pytest.raises(OutputError, match="Cannot write"), atomic_path(target / "file"):
        pass
    with pytest.raises(OutputError, match="Cannot write"), atomic_folder(target / "folder"):
        pass


def test_what_stays_empty_is_removed_when_the_program_ends(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    program = (
        "import os, sys; from pathlib import Path; from dinorad_rt.files import claim_output_dir\n"
        "root = Path(sys.argv[1])\n"
        "for one in ('new/deep/out', 'mine', 'used'): claim_output_dir(root / one, 'facts.json')\n"
        "(root / 'used' / 'facts.json').touch(); os.chdir('/')\n"
        "child = os.fork()\n"
        "if child == 0: sys.exit()\n"
        "os.waitpid(child, 0); assert (root / 'new/deep/out').is_dir(); raise SystemExit('refused')"
    )
    done = subprocess.run([sys.executable, "-c", program, "."], cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert sorted(one.name for one in tmp_path.iterdir()) == ["mine", "used"]
    assert (tmp_path / "used" / "facts.json").exists()


def test_who_writes_once_and_second_leaves_the_first(tmp_path: Path) -> None:
    write_once(tmp_path / "facts.json", "first")
    write_once(tmp_path / "facts.json", "second")
    assert [path.name for path in tmp_path.iterdir()] == ["facts.json"]
    assert (tmp_path / "facts.json").read_text() == "first"


@pytest.mark.skipif(os.name != "posix", reason="only POSIX has these locks")
def test_a_second_writer_is_refused_and_a_killed_one_forgotten(tmp_path: Path) -> None:
    with only_writer(tmp_path):
        with pytest.raises(OutputExistsError, match="Another process is writing") as caught:
            only_writer(tmp_path).__enter__()
        assert "--out" in caught.value.fix
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from dinorad_rt.files import only_writer\n"
        "with only_writer(Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert killed.returncode == -9
    with only_writer(tmp_path):
        assert list(tmp_path.iterdir()) == []


def test_a_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="Not a directory"):
        claim_output_dir(tmp_path / "file" / "out", "facts.json")


def test_a_folder_without_permission_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write everywhere
    with pytest.raises(OutputError, match="read-only"):
        claim_output_dir(tmp_path, "facts.json")


def test_an_unreadable_source_is_no_output(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), space_errors_named(tmp_path / "out" / "x"):
        raise PermissionError(errno.EACCES, "denied", "/elsewhere/source.zip")


def test_a_cache_that_cannot_be_made_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("DINORAD_RT_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="Cannot write keys") as caught:
        cache_dir("keys")
    assert "DINORAD_RT_CACHE" in caught.value.fix


FULL = """
import resource, signal, sys
from pathlib import Path
from types import SimpleNamespace
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
from dinorad_rt.errors import NoSpaceError
from dinorad_rt.files import atomic_path, steady_file
import numpy as np
target = Path(sys.argv[1]) / "file"
target.write_text("earlier")

def saved(part):
    if sys.argv[2] == "safetensors":
        from safetensors.numpy import save_file
        save_file({"a": np.zeros(100_000)}, part)
    elif sys.argv[2] == "numpy":
        with part.open("wb") as file:
            np.save(file, np.zeros(100_000))
    elif sys.argv[2] == "parquet":
        import pyarrow as pa, pyarrow.parquet as pq
        pq.write_table(pa.table({"a": np.random.rand(100_000)}), part)
    else:
        import torch
        with steady_file(part) as file:
            if sys.argv[2] == "state":
                torch.save({"a": torch.zeros(100_000)}, file)
            else:
                program = torch.export.export(torch.nn.Linear(300, 300), (torch.ones(1, 300),))
                torch.export.save(program, file)

try:
    with atomic_path(target) as part:
        saved(part)
except NoSpaceError as error:
    assert "DINORAD_RT_CACHE" in error.fix
    print([path.name for path in target.parent.iterdir()], target.read_text())
"""


@pytest.mark.skipif(os.name != "posix", reason="limits of files are POSIX")
@pytest.mark.parametrize("what", ["safetensors", "numpy", "parquet", "state", "program"])
def test_a_library_without_space_ends_in_one_error(tmp_path: Path, what: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path), what],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "['file'] earlier\n", done.stderr[-2000:]
    assert done.returncode == 0


def test_a_library_that_does_not_say_why_is_asked_of_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RuntimeError, match="failed"), atomic_path(tmp_path / "file"):
        raise RuntimeError("failed")
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(NoSpaceError), atomic_path(tmp_path / "file"):
        raise RuntimeError("failed")
    with pytest.raises(OutputExistsError), atomic_folder(tmp_path / "folder"):
        raise OutputExistsError("ours", "")
    assert list(tmp_path.iterdir()) == []


def test_a_link_to_nowhere_is_no_place_for_an_output(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "gone" / "away")
    with pytest.raises(OutputError, match="Cannot write out"):
        claim_output_dir(tmp_path / "out", "results.json")


def test_what_is_no_file_is_never_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for target in (pipe, tmp_path, Path("/dev/full"), Path("/dev/stdout")):
        with (
            pytest.raises(OutputError, match="no file that could be replaced"),
            atomic_path(target) as part,
        ):
            part.write_text("x")
    assert pipe.is_fifo() and list(tmp_path.iterdir()) == [pipe]
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="Cannot write"), atomic_path(tmp_path / "file" / "x"):
        pass
