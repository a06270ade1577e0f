"""Pseudonyms: keyed hashes that stand for identifiers, the same for one key, useless without it."""

from __future__ import annotations

import hmac
import os
import secrets
import tempfile
from functools import lru_cache
from pathlib import Path

from dinorad_rt.errors import DataError
from dinorad_rt.files import space_errors_named
from dinorad_rt.paths import CACHE_VARIABLE, cache_dir

KEY_VARIABLE = "DINORAD_RT_KEY"
KEY_FILE = "pseudonyms.key"
MIN_KEY_CHARACTERS = 16


def pseudonym(kind: str, value: str) -> str:
    """Keyed hash of an identifier: 32 hexadecimal digits (128 bits of HMAC-SHA256).

    The key is the variable DINORAD_RT_KEY, else a file made on first use in the cache (mode
    0600). Whoever lacks the key can neither undo the hash nor test a guess; two sites that share
    the key get the same pseudonyms.

    Args:
        kind: what the identifier names, such as "patient": equal values of two kinds differ.
        value: the identifier; blanks around it do not count.

    Raises:
        DataError: the key is too short to protect anything.
    """
    message = f"{kind}\x1f{value.strip()}".encode("utf-8", "surrogateescape")
    return hmac.digest(_key(), message, "sha256").hex()[:32]


def _key() -> bytes:
    given = os.environ.get(KEY_VARIABLE)
    if given is None:
        return _key_of_cache(os.environ.get(CACHE_VARIABLE))
    if len(given) < MIN_KEY_CHARACTERS:
        raise DataError(
            f"{KEY_VARIABLE} has {len(given)} characters; at least {MIN_KEY_CHARACTERS} are "
            "needed to protect identifiers.",
            "Make a key: python -c 'import secrets; print(secrets.token_hex(32))'",
        )
    return given.encode()


@lru_cache(maxsize=8)
def _key_of_cache(_: str | None) -> bytes:
    """The key in the cache; asked for each of a million identifiers, so its place is found once."""
    return _key_of_file(cache_dir("keys") / KEY_FILE)


@lru_cache(maxsize=8)
def _key_of_file(path: Path) -> bytes:
    """Read the key, or make it; two processes that start together end with the same one."""
    if not path.exists():
        _make_key(path)
    key = path.read_bytes()
    if len(key) < MIN_KEY_CHARACTERS:
        raise DataError(
            f"The key file {path} is damaged: {len(key)} bytes.",
            f"Restore it from a backup, or delete it: new pseudonyms will differ. rm {path}",
        )
    return key


def _make_key(path: Path) -> None:
    with space_errors_named(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".key.")  # mode 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(secrets.token_bytes(32))
            os.link(name, path)  # fails if another process was first: its key counts
        except FileExistsError:
            pass
        finally:
            os.unlink(name)
