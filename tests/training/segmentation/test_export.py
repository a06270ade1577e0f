"""Encoder and decoder as one graph: the numbers of the run, folded, linted, on ONNX Runtime."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dinorad_rt.datasets.dataset import Dataset
from dinorad_rt.errors import LeakageError, RunError
from dinorad_rt.studies.read import read_study
from dinorad_rt.training.checkpoint import load_tuned
from dinorad_rt.training.evaluate import RunRequest, evaluate_run
from dinorad_rt.training.export import LOGITS as EXPORTED
from dinorad_rt.training.export import export_tuned
from dinorad_rt.training.segmentation.decoders import build_decoder
from dinorad_rt.training.segmentation.export import fold_batch_norms, segmentation_graph
from dinorad_rt.training.segmentation.load import segmenter_of
from dinorad_rt.training.segmentation.predict import LOGITS, SliceSegmenter, segment_study
from dinorad_rt.training.segmentation.run import train_segmentation
from dinorad_rt.training.settings import TrainSettings

from .test_run import ENGINE, SCRATCH, TOKENS

Loop = Callable[..., TrainSettings]


def test_folding_batch_norms_changes_nothing() -> None:
    torch.manual_seed(0)
    decoder = build_decoder("unet-as-coded", dim=32, grid=4, classes=3, image_size=56)
    for _ in range(3):
        decoder(torch.randn(4, 5, 16, 32))  # statistics other than 0 and 1
    decoder.eval()
    folded = fold_batch_norms(decoder)
    tokens = torch.randn(2, 5, 16, 32)
    with torch.no_grad():
        torch.testing.assert_close(folded(tokens), decoder(tokens), atol=1e-5, rtol=1e-4)
    kinds = [type(part) for part in folded.modules()]
    assert nn.BatchNorm2d not in kinds and nn.BatchNorm2d in map(type, decoder.modules())


@pytest.mark.parametrize("decoder", ["linear", "unet", "unet-as-coded"])
def test_graph_gives_what_the_run_gives(
    decoder: str, volumes: Dataset, loop: Loop, tmp_path: Path
) -> None:
    settings = dataclasses.replace(TOKENS, decoder=decoder)
    train_segmentation(settings, loop(epochs=1), volumes, tmp_path / "run", request=ENGINE)
    tuned = load_tuned(tmp_path / "run")
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        found = segmentation_graph(tuned)(pixels)
        torch.testing.assert_close(found[0], tuned.module(pixels), atol=1e-4, rtol=1e-3)
    assert found[0].shape == (2, 3, 64, 64)


@pytest.mark.slow
def test_exported_run_segments_alike_on_onnx_runtime(
    volumes: Dataset, loop: Loop, tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    settings = dataclasses.replace(TOKENS, decoder="unet")
    train_segmentation(settings, loop(epochs=2), volumes, tmp_path / "run", request=ENGINE)
    tuned = load_tuned(tmp_path / "run")
    graph = export_tuned(tuned, out=tmp_path / "graph")
    assert EXPORTED == LOGITS
    session = onnxruntime.InferenceSession(
        str(tmp_path / "graph" / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    types = {node.op_type for node in _nodes(tmp_path / "graph" / "model.onnx")}
    assert not types & {"Resize", "BatchNormalization"}

    def scores(pixels: np.ndarray) -> np.ndarray:
        return np.asarray(session.run([LOGITS], {"pixel_values": pixels})[0])

    study = read_study(volumes.of_split("test")[0].path)
    ours = segment_study(SliceSegmenter(tuned.preprocessing, 3, scores), study)
    theirs = segment_study(segmenter_of(tuned), study)
    assert (ours == theirs).mean() > 0.999
    assert graph.manifest["outputs"] == {LOGITS: [3, 64, 64]}


def test_networks_from_scratch(volumes: Dataset, loop: Loop, tmp_path: Path) -> None:
    train_segmentation(SCRATCH, loop(epochs=1), volumes, tmp_path / "flat")
    tuned = load_tuned(tmp_path / "flat")
    pixels = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(
            segmentation_graph(tuned)(pixels)[0], tuned.module(pixels), atol=1e-4, rtol=1e-3
        )


def _nodes(path: Path) -> list[object]:
    import onnx

    return list(onnx.load(path, load_external_data=False).graph.node)


@pytest.mark.slow
def test_run_is_judged_on_its_engine(volumes: Dataset, loop: Loop, tmp_path: Path) -> None:
    settings = dataclasses.replace(TOKENS, decoder="unet")
    trained = train_segmentation(
        settings, loop(epochs=2), volumes, tmp_path / "run", request=ENGINE
    )
    request = RunRequest(tmp_path / "run", precision="fp32", backend="pytorch")
    results, folder = evaluate_run(request, volumes)
    assert folder == tmp_path / "run" / "engine" and (folder / "cases.parquet").is_file()
    assert trained.results is not None
    for name in ("dice", "nsd"):
        ours, theirs = (r.metric(name, None, over="volumes") for r in (results, trained.results))
        assert ours.value == pytest.approx(theirs.value, abs=2e-3)
    gate = results.provenance["task_gate"]
    assert gate["agreement"] > 0.999 and abs(gate["difference"]) < 1e-3
    assert gate["verdict"] == "undecided" and "2" in gate["reason"], "two patients tell nothing"
    other = dataclasses.replace(volumes, class_names=("background", "a", "b"))
    with pytest.raises(RunError, match="segments background, front, back"):
        evaluate_run(request, other, out=tmp_path / "other")
    swapped = {"train": "test", "test": "train", "val": "val"}
    samples = (dataclasses.replace(one, split=swapped[one.split]) for one in volumes.samples)
    resplit = dataclasses.replace(volumes, fingerprint="of it", samples=tuple(samples))
    with pytest.raises(LeakageError, match=r"^4 of 4 test patients \(4 images\) were trained on"):
        evaluate_run(request, resplit, out=tmp_path / "resplit")
