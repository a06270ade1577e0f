"""Names of files: which ones to look at, and in which order."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any


def visible_files(folder: Path) -> list[Path]:
    """All files under a folder in sorted order, without hidden ones and hidden folders."""
    return sorted(
        path
        for path in folder.rglob("*")
        if not any(part.startswith((".", "__MACOSX")) for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def natural_key(path: Path) -> tuple[Any, ...]:
    """Sort key that puts `slice 2` before `slice 10`."""
    parts = re.split(r"(\d+)", path.name.lower())
    return (str(path.parent), *((int(p), "") if p.isdigit() else (-1, p) for p in parts))
