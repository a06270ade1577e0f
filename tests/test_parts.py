"""What a killed process left goes with the next writer; what a living one writes stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dinorad_rt import parts
from dinorad_rt.files import atomic_folder, atomic_path
from dinorad_rt.parts import remove_dead_parts

pytestmark = pytest.mark.skipif(os.name != "posix", reason="only POSIX has these locks")

KILLED = """
import os, signal, sys
from pathlib import Path
from dinorad_rt.files import atomic_folder, atomic_path
root = Path(sys.argv[1])
with atomic_path(root / "file") as file, atomic_folder(root / "folder") as folder:
    file.write_text("half")
    (folder / "half").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """A folder in which a process was killed while it wrote a file and a folder."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert _names(tmp_path) == [".file.0.part", ".folder.0.part", ".folder.0.parts"]
    return tmp_path


def test_the_next_writer_removes_what_a_killed_one_left(left: Path) -> None:
    with atomic_path(left / "file") as part:
        part.write_text("whole")
    assert _names(left) == [".folder.0.part", ".folder.0.parts", "file"]
    with atomic_folder(left / "folder") as folder:
        assert _names(folder) == []
        (folder / "whole").touch()
    assert _names(left) == ["file", "folder"]
    assert _names(left / "folder") == ["whole"]
    assert (left / "file").read_text() == "whole"


def test_what_is_left_beside_a_living_writer_goes_too(left: Path) -> None:
    with atomic_path(left / "file") as first:
        (left / ".file.1.part").write_text("of a second one, killed")
        with atomic_path(left / "file") as second:
            assert {first.name, second.name} == {".file.0.part", ".file.1.part"}
            second.write_text("second")
        assert first.exists()
        (left / ".file.1.part").write_text("of a second one, killed")
        first.write_text("first")
    with atomic_path(left / "file") as part:
        assert [path.name for path in left.glob(".file.*")] == [part.name]


def test_who_was_first_to_open_a_part_has_not_got_it_before_it_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, taken = parts._lock, []

    def late(handle: int, *, wait: bool = False) -> bool:
        if wait and not taken:
            taken.append(parts._removed_if_dead(tmp_path / ".file.0.part"))
        return real(handle, wait=wait)

    monkeypatch.setattr(parts, "_lock", late)
    with atomic_path(tmp_path / "file") as part:
        part.write_text("whole")
    assert taken == [True]
    assert _names(tmp_path) == ["file"]


def test_a_part_of_another_is_not_removed_with_ours(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "file") as part:
        part.unlink()
        part.write_text("another process had taken the free name")
        raise RuntimeError
    assert _names(tmp_path) == [part.name]


def test_without_locks_nothing_is_removed(left: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_lock", lambda handle, wait=False: False)
    with atomic_path(left / "file") as part:
        assert part.name == ".file.1.part"
        part.write_text("whole")
    assert (left / "file").read_text() == "whole"
    assert (left / ".file.0.part").read_text() == "half"


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / ".file.0.part").symlink_to(tmp_path / "mine")
    with atomic_path(tmp_path / "file") as part:
        part.write_text("whole")
    assert (tmp_path / "mine").read_text() == "mine"


def test_dead_parts_of_a_folder_are_counted(left: Path) -> None:
    with atomic_path(left / "other") as part:
        part.write_text("alive")
        assert remove_dead_parts(left) == 8
        assert _names(left) == [part.name]
