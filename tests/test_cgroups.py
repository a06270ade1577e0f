"""Limits of containers and batch systems, in trees of files as the kernel shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dinorad_rt import cgroups, machine
from dinorad_rt.engines.memory import available_bytes

GIB = 1 << 30
STAT = f"anon 5\ninactive_file {GIB}\ntotal_inactive_file {GIB}\n"


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The mount of control groups; beside it, `own` is /proc/self/cgroup."""
    monkeypatch.setattr(cgroups, "ROOT", tmp_path / "cgroup")
    monkeypatch.setattr(cgroups, "OWN", tmp_path / "own")
    (tmp_path / "cgroup").mkdir()
    return tmp_path / "cgroup"


def _write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(f"{text}\n")


def _own(tree: Path, *lines: str) -> None:
    (tree.parent / "own").write_text("\n".join(lines) + "\n")


def test_a_container_of_version_2_is_at_the_top(tree: Path) -> None:
    _own(tree, "0::/")
    _write(tree, cpu_max="150000 100000", memory_max=str(4 * GIB))
    _write(tree, memory_current=str(3 * GIB), memory_stat=STAT)
    assert cgroups.cpu_quota() == 1.5
    assert cgroups.memory_limit() == 4 * GIB
    assert cgroups.memory_left() == 2 * GIB
    assert machine.memory_gib() == min(4.0, round(machine.physical_bytes() / GIB, 1))
    assert available_bytes() == min(2 * GIB, available_bytes() or 0)


def test_a_job_of_slurm_has_the_limits_of_its_step_and_of_all_above(tree: Path) -> None:
    _own(tree, "0::/system.slice/slurmstepd.scope/job_7/step_0")
    job = tree / "system.slice" / "slurmstepd.scope" / "job_7"
    _write(job, memory_max=str(2 * GIB), memory_current=str(GIB), memory_stat="inactive_file 0")
    _write(job, cpu_max="max 100000")
    _write(job / "step_0", memory_max="max", cpu_max="300000 100000")
    assert cgroups.memory_limit() == 2 * GIB
    assert cgroups.memory_left() == GIB
    assert cgroups.cpu_quota() == 3.0


def test_docker_of_version_1_does_not_see_its_own_path(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _own(tree, "4:memory:/docker/abc", "3:cpu,cpuacct:/docker/abc", "0::/")
    _write(tree / "memory", memory_limit_in_bytes=str(GIB), memory_usage_in_bytes=str(2 * GIB))
    _write(tree / "memory", memory_stat=STAT)
    _write(tree / "cpu", cpu_cfs_quota_us="50000", cpu_cfs_period_us="100000")
    assert cgroups.memory_limit() == GIB
    assert cgroups.memory_left() == 0  # never negative
    assert cgroups.cpu_quota() == 0.5
    assert machine.usable_cores() == 1


def test_without_a_limit_there_is_none(tree: Path) -> None:
    assert cgroups.cpu_quota() is cgroups.memory_limit() is cgroups.memory_left() is None
    _own(tree, "4:memory:/", "3:cpu,cpuacct:/", "0::/")
    _write(tree / "memory", memory_limit_in_bytes="9223372036854771712")
    _write(tree / "cpu", cpu_cfs_quota_us="-1", cpu_cfs_period_us="100000")
    assert cgroups.cpu_quota() is cgroups.memory_limit() is cgroups.memory_left() is None
    assert machine.memory_gib() == round(machine.physical_bytes() / GIB, 1)
