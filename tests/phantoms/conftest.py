"""A small data set, written once for all tests of this folder."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from dinorad_rt.phantoms import write_phantoms

PATIENTS, SIZE = 16, 96

Rows = list[dict[str, str]]


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms of 16 patients with X-rays of 96 pixels."""
    return write_phantoms(
        tmp_path_factory.mktemp("phantoms") / "set", patients=PATIENTS, image_size=SIZE
    )


@pytest.fixture(scope="session")
def rows_of(phantoms: Path) -> Callable[[str], Rows]:
    """Rows of a table below the data set."""

    def read(table: str) -> Rows:
        with (phantoms / table).open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    return read
