"""Where things lie: the cache of this machine, and the recipes and profiles that ship with us."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from dinorad_rt.errors import OutputError

CACHE_VARIABLE = "DINORAD_RT_CACHE"
CACHE_KINDS = (
    *("graphs", "engines", "timing", "kernels", "references", "choices"),
    *("embeddings", "images", "arrays", "phantoms", "datasets", "weights"),
)
"""Folders of the cache whose content can be made again; keys and splits cannot."""

_PACKAGE = Path(__file__).resolve().parent


def cache_dir(kind: str) -> Path:
    """Folder of one kind of cached thing (`engines`, `graphs`, `phantoms`, ...), made on demand.

    The root is the platform's cache folder; the variable DINORAD_RT_CACHE overrides it. Mode
    0700: an engine is code, and nobody else may put one there.

    Raises:
        OutputError: it cannot be made there.
    """
    from dinorad_rt.files import space_errors_named

    folder = cache_root() / kind
    with space_errors_named(folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def cache_root() -> Path:
    """Folder of the whole cache; it need not be there.

    Raises:
        OutputError: this user has no place for one.
    """
    try:
        root = os.environ.get(CACHE_VARIABLE)
        if root:
            return Path(root).expanduser()
        import platformdirs

        base = Path(platformdirs.user_cache_dir("dinorad-rt", appauthor=False))
    except RuntimeError:  # what pathlib and platformdirs raise of a user without a home folder
        base = Path()
    if base.is_absolute():
        return base
    raise OutputError(
        "There is no place for the cache: this user has no home folder.",
        f"Name a folder that you may write to: {CACHE_VARIABLE}=/tmp/cache dinorad-rt ...",
    )


def recipe_dir(kind: Literal["export", "engines"]) -> Path:
    """Folder of the shipped declarations: inside a wheel, else in the checkout."""
    installed = _PACKAGE / "_data" / kind
    return installed if installed.is_dir() else _PACKAGE.parent / kind
