"""Bundles on disk: written whole, read only as they were written; calibration on real formulas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from sklearn.metrics import log_loss

from dinorad_rt.errors import BundleError, OutputExistsError
from dinorad_rt.export.manifest import Graph, write_manifest
from dinorad_rt.export.onnx_export import claimed_graph_folder
from dinorad_rt.files import only_writer, read_json, write_json
from dinorad_rt.prediction.bundle import BUNDLE_FILE, CARD_FILE, Bundle
from dinorad_rt.prediction.write import (
    BundleOptions,
    ValidationScores,
    bundle_run,
    calibrated,
    write_bundle,
)
from dinorad_rt.preprocessing.spec import PreprocessSpec

SPEC = PreprocessSpec(16, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), resize="pad", window=(40.0, 80.0))


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    """A graph that gives its input back; enough to be copied and hashed."""
    folder = tmp_path / "graph"
    folder.mkdir()
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["b", 2]) for n in ("x", "logits")]
    node = helper.make_node("Identity", ["x"], ["logits"])
    model = helper.make_model(helper.make_graph([node], "g", ports[:1], ports[1:]))
    onnx.save(model, str(folder / "model.onnx"))
    facts = {
        "key": "k" * 64,
        "model": "tiny",
        "precision": "fp32",
        "weights": {"sha256": "0" * 64, "licence": "MIT"},
        "weights_kind": "random",
        "recipe": {"family": "vit", "sha256": "1" * 64},
        "outputs": {"logits": [2]},
        "input_shape": [3, 16, 16],
    }
    return write_manifest(folder, facts)


def facts_of(graph: Graph) -> dict[str, Any]:
    return {
        "name": "tiny",
        "kind": "classification",
        "task": "binary",
        "class_names": ["no", "yes"],
        "activation": "softmax",
        "preprocessing": SPEC.as_dict(),
        "precision": "fp32",
        "graph": {"key": graph.key, "sha256": graph.sha256},
        "weights_kind": "random",
        "licence": "MIT",
        "training": {"data": {"name": "set", "fingerprint": "f" * 64, "splits": {"train": 3}}},
        "test": None,
    }


def test_what_is_written_is_read_and_said_in_the_card(graph: Graph, tmp_path: Path) -> None:
    bundle = write_bundle(graph, facts_of(graph), tmp_path / "out")
    assert bundle.preprocessing == SPEC
    assert bundle.graph.sha256 == graph.sha256 and bundle.class_names == ("no", "yes")
    card = (tmp_path / "out" / CARD_FILE).read_text(encoding="utf-8")
    for words in ("weights: random", "Not for clinical use", "nothing is known", "Not calibrated"):
        assert words in card
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".part")]


def test_the_card_shows_metrics_as_reports_do(graph: Graph, tmp_path: Path) -> None:
    row = {"value": 0.98765, "ci_low": 0.9, "ci_high": 1.0, "n": 9, "n_patients": 8}
    metrics = [
        row | {"name": "dice", "setting": {"over": "volumes"}},
        row | {"name": "dice", "setting": {"over": "pixels"}, "ci_low": None, "ci_high": None},
        row | {"name": "hd95", "setting": {"over": "volumes"}, "value": 3.456},
        row | {"name": "average_precision"},  # bundles of before have no setting
    ]
    test = {"unit": "mm", "metrics": metrics, "excluded_classes": {}, "notes": []}
    write_bundle(graph, facts_of(graph) | {"test": test}, tmp_path / "out")
    card = (tmp_path / "out" / CARD_FILE).read_text(encoding="utf-8")
    for line in (
        "| Dice, per case | 0.988 | 0.900 to 1.000 | 9 | 8 |",
        "| Dice, pooled pixels | 0.988 | – | 9 | 8 |",
        "| HD95, mm, per case | 3.46 | 0.90 to 1.00 | 9 | 8 |",
        "| AP | 0.988 | 0.900 to 1.000 | 9 | 8 |",
    ):
        assert line in card


@pytest.mark.parametrize("name", [CARD_FILE, "graph/model.onnx"])
def test_a_changed_or_missing_file_is_refused(graph: Graph, tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    write_bundle(graph, facts_of(graph), out)
    path = out / name
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(BundleError, match=path.name):
        Bundle.open(out)
    path.unlink()
    with pytest.raises(BundleError, match=path.name):
        Bundle.open(out)


def test_what_is_no_bundle_is_told_and_full_folders_are_left_alone(
    graph: Graph, tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match=BUNDLE_FILE):
        Bundle.open(tmp_path)
    with pytest.raises(OutputExistsError, match="not empty"):
        write_bundle(graph, facts_of(graph), tmp_path)


def test_one_process_writes_a_bundle_and_a_graph(graph: Graph, tmp_path: Path) -> None:
    busy = tmp_path / "busy"
    busy.mkdir()
    with only_writer(busy):
        with pytest.raises(OutputExistsError, match="Another process"):
            bundle_run(tmp_path / "no-run", busy)
        with (
            pytest.raises(OutputExistsError, match="Another process"),
            claimed_graph_folder(busy, graph.key),
        ):
            pass
    with claimed_graph_folder(graph.folder, graph.key) as found:
        assert found is not None
        with (
            pytest.raises(OutputExistsError, match="Another process"),
            claimed_graph_folder(graph.folder, graph.key),
        ):
            pass
    with (
        pytest.raises(OutputExistsError, match="another graph"),
        claimed_graph_folder(graph.folder, "0" * 64),
    ):
        pass


def test_a_bundle_of_another_version_says_what_to_do(graph: Graph, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    write_bundle(graph, facts_of(graph), folder)
    facts = read_json(folder / BUNDLE_FILE)
    write_json(folder / BUNDLE_FILE, facts | {"format": 1})
    assert Bundle.open(folder).name == "tiny"
    write_json(folder / BUNDLE_FILE, facts | {"format": 3})
    with pytest.raises(BundleError, match="format 3") as newer:
        Bundle.open(folder)
    assert "update dinorad-rt" in newer.value.fix
    write_json(folder / BUNDLE_FILE, {k: v for k, v in facts.items() if k != "files"})
    with pytest.raises(BundleError, match="lacks files"):
        Bundle.open(folder)


def test_calibration_lowers_scikit_learns_log_loss(graph: Graph) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 400)
    logits = np.stack([np.zeros(400), (labels - 0.5) * 2 + rng.standard_normal(400)], axis=1) * 5
    made = calibrated(ValidationScores(logits, labels), facts_of(graph), BundleOptions())
    (scale,), bias = made["calibration"]["temperature"], made["calibration"]["bias"]
    odds = np.exp(logits / scale + bias)
    after = log_loss(labels, odds / odds.sum(axis=1, keepdims=True))
    assert made["calibration"]["negative_log_likelihood_after"] == pytest.approx(after)
    assert after < made["calibration"]["negative_log_likelihood_before"]
    assert set(made["operating_points"]) == {"yes"}
