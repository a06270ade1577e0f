"""`compare` on written runs: a table in words and numbers, and clear refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import dinorad_rt
from dinorad_rt.cli.compare import parse_setting
from dinorad_rt.cli.main import app
from dinorad_rt.embeddings.table import DatasetInfo, EmbeddingTable
from dinorad_rt.errors import DataError, ProtocolError
from dinorad_rt.protocols.knn import KNNSettings, evaluate_knn


def write_run(folder: Path, noise: float) -> Path:
    """A kNN run on blobs; more noise, a worse run."""
    random = np.random.default_rng(0)
    labels = np.arange(90) % 2
    points = labels[:, None] + noise * random.standard_normal((90, 4))
    names = np.array([f"s{i}" for i in range(90)], dtype=object)
    rows = EmbeddingTable(
        names, names, np.full(90, "x"), labels, points[:, None].astype(np.float32)
    )
    evaluate_knn(
        rows.take(slice(0, 30)),
        rows.take(slice(30, 40)),
        rows.take(slice(40, 90)),
        DatasetInfo("toy", "binary", ("no", "yes")),
        KNNSettings(ks=(3, 5), resamples=50),
        provenance={"engine": {"model": f"noise{noise}", "weights_kind": "random"}},
    ).write(folder)
    return folder


def test_two_runs_become_a_table_and_a_sentence(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / str(noise), noise) for noise in (0.1, 3.0)]
    done = CliRunner().invoke(
        app, ["compare", *map(str, runs), "--setting", "k=3", "--resamples", "200"]
    )
    assert done.exit_code == 0, done.output
    assert "noise3.0 (k 3) is worse than noise0.1 (k 3)" in " ".join(done.output.split())
    assert "weights: random" in done.output
    as_json = CliRunner().invoke(
        app, ["compare", *map(str, runs), "--setting", "k=3", "--resamples", "200", "--json"]
    )
    document = json.loads(as_json.stdout)
    assert document["comparisons"][0]["n"] == 50


def test_same_models_go_by_their_folders_in_python_too(tmp_path: Path) -> None:
    paths = [write_run(tmp_path / name, 1.0) for name in ("one", "two")]
    (found,) = dinorad_rt.compare(paths, k=5)
    assert (found.first, found.second) == ("one (k 5)", "two (k 5)")
    assert found.difference == 0


def test_settings_are_read_as_numbers_where_they_are() -> None:
    assert parse_setting("k=20, patch_mean=yes,C=0.1") == {
        "k": 20,
        "patch_mean": "yes",
        "C": 0.1,
    }
    assert parse_setting(None) == {}
    with pytest.raises(ProtocolError, match="no ="):
        parse_setting("k20")


def test_a_folder_without_results_is_named(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["compare", str(tmp_path), str(tmp_path)])
    assert isinstance(done.exception, DataError)
