"""Keyed hashes: stable for one key, different for another, made with the standard's HMAC."""

from __future__ import annotations

import hmac
import stat
from pathlib import Path

import pytest

from dinorad_rt.errors import DataError
from dinorad_rt.studies.pseudonym import pseudonym


def test_the_key_is_made_once_and_is_private(cache: Path) -> None:
    first = pseudonym("patient", "MRN-4711")
    key = cache / "keys" / "pseudonyms.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert [path.name for path in key.parent.iterdir()] == [key.name]
    assert pseudonym("patient", " MRN-4711 ") == first
    expected = hmac.digest(key.read_bytes(), b"patient\x1fMRN-4711", "sha256").hex()
    assert first == expected[:32]


def test_kinds_and_keys_separate(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DINORAD_RT_KEY", "a" * 32)
    first = pseudonym("patient", "1")
    assert pseudonym("study", "1") != first
    monkeypatch.setenv("DINORAD_RT_KEY", "b" * 32)
    assert pseudonym("patient", "1") != first
    assert not (cache / "keys").exists()


def test_a_short_key_protects_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DINORAD_RT_KEY", "secret")
    with pytest.raises(DataError, match="6 characters"):
        pseudonym("patient", "1")


def test_a_damaged_key_file_is_told(cache: Path) -> None:
    (cache / "keys").mkdir(parents=True)
    (cache / "keys" / "pseudonyms.key").write_bytes(b"")
    with pytest.raises(DataError, match="damaged"):
        pseudonym("patient", "1")
