"""Every odd file and every real volume beside SimpleITK: values after the rescale, and geometry."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("SimpleITK")

from benchmarks import readers


def test_every_odd_file(shared_data: Path, cache: Path) -> None:
    rows = readers.odd_files(shared_data)
    assert len(rows) == 64
    assert [row["file"] for row in rows if not row["as expected"]] == []
    assert [row["file"] for row in rows if row.get("SimpleITK") == "DIFFERS"] == []
    assert sum(row.get("SimpleITK") == "same" for row in rows) >= 30
    assert sum((row.get("geometry apart") is not None) for row in rows) >= 15
    assert all(row["said"] for row in rows)


def test_every_real_volume(shared_data: Path, cache: Path) -> None:
    rows = readers.real_volumes(shared_data)
    assert len(rows) > 200
    assert [row["volume"] for row in rows if row["SimpleITK"] != "same"] == []
    assert all(row["geometry apart"] is not None for row in rows)


def test_the_comparison_sees_a_difference(shared_data: Path, cache: Path) -> None:
    from dataclasses import replace

    from dinorad_rt.studies.read import read_study

    path = shared_data / "dicom_odd" / "CT_small.dcm"
    study = read_study(path)
    assert readers.against_simpleitk(path, study)["SimpleITK"] == "same"
    for changed in (
        replace(study, rescale=(1.0, -1023.0)),
        replace(study, origin=(0.0, 0.0, 0.0)),
        replace(study, orientation=-study.orientation),
    ):
        assert readers.against_simpleitk(path, changed)["SimpleITK"] == "DIFFERS"
