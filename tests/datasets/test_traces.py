"""A file's trace follows its content, not its name, size or place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dinorad_rt.datasets.open import open_dataset
from dinorad_rt.datasets.traces import BLOCK, trace_of


@pytest.mark.parametrize("size", [0, 1, BLOCK, 2 * BLOCK + 7, 50 * BLOCK])
def test_equal_content_gives_equal_traces_and_another_byte_another(
    tmp_path: Path, size: int
) -> None:
    content = bytearray(os.urandom(size))
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_bytes(content)
    second.write_bytes(content)
    assert trace_of(first) == trace_of(second) != ""
    for place in {0, size // 2, size - 1} if size else ():
        changed = bytearray(content)
        changed[place] ^= 1
        second.write_bytes(changed)
        assert trace_of(first) != trace_of(second)


def test_folders_stand_for_their_files_and_missing_ones_have_no_trace(tmp_path: Path) -> None:
    (tmp_path / "series").mkdir()
    (tmp_path / "series" / "1.dcm").write_bytes(b"one")
    before = trace_of(tmp_path / "series")
    (tmp_path / "series" / "2.dcm").write_bytes(b"two")
    assert trace_of(tmp_path / "series") != before
    assert trace_of(tmp_path / "none") == ""


def test_an_image_of_the_same_size_gives_the_dataset_another_fingerprint(tmp_path: Path) -> None:
    for name in ("yes", "no"):
        (tmp_path / name).mkdir()
        for index in range(6):
            (tmp_path / name / f"{index}.png").write_bytes(bytes([index]) * 100 + name.encode())
    before = open_dataset(tmp_path)
    (tmp_path / "yes" / "3.png").write_bytes(b"z" * 100 + b"yes")
    after = open_dataset(tmp_path)
    assert before.split_hash == after.split_hash
    assert before.fingerprint != after.fingerprint
