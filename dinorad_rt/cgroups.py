"""Limits of the control groups that this process is in: containers and batch systems, v1 and v2.

A container sees its own group at the top of the mount; a job of Slurm or systemd is in a group far
below it. The limits of every group from there up to the top hold together.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
_NONE = 1 << 60
"""From here on version 1 means that there is no limit."""


def cpu_quota() -> float | None:
    """Processors' time per time that this process may use; None without a limit."""
    quotas = []
    for folder in _folders("cpu"):
        try:
            if (folder / "cpu.max").is_file():
                quota, period = _words(folder / "cpu.max")[:2]
            else:
                (quota,) = _words(folder / "cpu.cfs_quota_us")
                (period,) = _words(folder / "cpu.cfs_period_us")
            if quota != "max" and int(quota) > 0:
                quotas.append(int(quota) / int(period))
        except (OSError, ValueError, ZeroDivisionError):
            continue
    return min(quotas, default=None)


def memory_limit() -> int | None:
    """Bytes that this process and those of its groups may hold at most; None without a limit."""
    limits = (_limit(folder) for folder in _folders("memory"))
    return min((limit for limit in limits if limit is not None), default=None)


def memory_left() -> int | None:
    """Bytes up to the nearest limit; files that are kept cached can be given back."""
    left = []
    for folder in _folders("memory"):
        limit = _limit(folder)
        if limit is None:
            continue
        names = (
            ("memory.current", "inactive_file")
            if (folder / "memory.current").is_file()
            else ("memory.usage_in_bytes", "total_inactive_file")
        )
        try:
            used = int(_words(folder / names[0])[0])
            facts = _words(folder / "memory.stat")
            cached = int(facts[facts.index(names[1]) + 1])
        except (OSError, ValueError, IndexError):
            continue
        left.append(max(0, limit - used + cached))
    return min(left, default=None)


def _limit(folder: Path) -> int | None:
    for name in ("memory.max", "memory.limit_in_bytes"):
        try:
            (word,) = _words(folder / name)
            return int(word) if word != "max" and int(word) < _NONE else None
        except (OSError, ValueError):
            continue
    return None


def _folders(controller: str) -> Iterator[Path]:
    """Folders of the groups that this process is in, and of those above them."""
    try:
        lines = OWN.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, names, place = line.split(":", 2)
        if names and controller not in names.split(","):
            continue
        top = ROOT / controller if names else ROOT
        group = top / place.strip("/")
        for folder in (group, *group.parents):
            if folder.is_dir():  # a container does not see where it is on its host
                yield folder
            if folder == top:
                break


def _words(path: Path) -> list[str]:
    return path.read_text(encoding="ascii").split()
