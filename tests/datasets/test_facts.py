"""Facts of many files are read a few at a time, in their order, and told as they come."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dinorad_rt.datasets import facts
from dinorad_rt.datasets.facts import READERS, FileFacts


@pytest.mark.parametrize(("files", "tasks"), [(2000, (READERS, 200)), (20, (READERS, 20))])
def test_a_task_reads_several_of_many_files(
    files: int, tasks: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted: list[int] = []

    class Pool(ThreadPoolExecutor):
        def submit(self, *arguments: object, **named: object) -> object:  # type: ignore[override]
            submitted.append(1)
            return super().submit(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(facts, "ThreadPoolExecutor", Pool)
    told: list[tuple[str, int, int]] = []
    known = FileFacts(tmp_path, progress=lambda *step: told.append(step))
    paths = [tmp_path / f"{index}.png" for index in range(files)]
    found = known.of("name", paths, lambda path: path.name)
    assert found == [path.name for path in paths]
    assert tasks[0] <= len(submitted) <= tasks[1]
    assert told[-1] == ("name", files, files)
    done = [step[1] for step in told]
    assert done == sorted(done)
