"""3-D networks as graphs of patches: the numbers of the run, on engines, slid over volumes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from dinorad_rt.datasets.dataset import Dataset
from dinorad_rt.errors import EngineError, ExportError
from dinorad_rt.pipeline import build_engine
from dinorad_rt.prediction.predict import PredictOptions, predict
from dinorad_rt.prediction.write import bundle_run
from dinorad_rt.studies.read import read_study
from dinorad_rt.training.checkpoint import load_tuned
from dinorad_rt.training.evaluate import RunRequest, evaluate_run
from dinorad_rt.training.export import export_tuned
from dinorad_rt.training.segmentation.export import segmentation_graph
from dinorad_rt.training.segmentation.load import segmenter_of
from dinorad_rt.training.segmentation.predict import segment_study
from dinorad_rt.training.segmentation.run import train_segmentation
from dinorad_rt.training.settings import TrainSettings

from .test_run import PATCHES
from .untrained import PATCH, untrained


@pytest.mark.parametrize(
    ("name", "width", "patch"),
    [("unet3d", 4, PATCH), ("segresnet", 8, PATCH), ("swinunetr", 12, (32, 32, 64))],
)
def test_the_graph_gives_what_the_network_gives(
    name: str, width: int, patch: tuple[int, int, int]
) -> None:
    pytest.importorskip("monai")
    tuned = untrained(name, width, patch)
    assert tuned.input_shape == (1, *patch)
    pixels = torch.randn(1, *tuned.input_shape)
    with torch.no_grad():
        wanted = tuned.module(pixels)
        found = segmentation_graph(tuned)(pixels)[0]
    assert found.shape == (1, 3, *patch)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    assert "FixedMaskLayer" not in str(tuned.module), "the run's own module is not changed"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "width"), [("unet3d", 4), ("segresnet", 8)])
def test_engines_of_patches_pass_the_gate(name: str, width: int, cache: Path) -> None:
    tuned = untrained(name, width)
    graph = export_tuned(tuned)
    assert graph.input_shape == (1, *PATCH) and graph.outputs == {"logits": (3, *PATCH)}
    assert graph.manifest["patch"] == list(PATCH) and "image_size" not in graph.manifest
    assert graph.manifest["recipe"]["family"] == "volume"
    for backend in ("openvino", "onnxruntime", "pytorch"):
        pytest.importorskip({"pytorch": "torch"}.get(backend, backend))
        engine = build_engine(graph, backend=backend)
        assert engine.input_shape == (1, *PATCH)
        assert engine.manifest["parity"]["outputs"]["logits"]["relative_l2_max"] < 5e-4
    assert export_tuned(tuned).key == graph.key


@pytest.mark.slow
def test_other_weights_give_the_same_structure(cache: Path) -> None:
    """What an engine needs to take the weights of a later run: slopes of PReLU are weights too."""
    from dinorad_rt.engines.structure import structure_digest

    first, second = untrained("unet3d", 4), untrained("unet3d", 4)
    for value in second.module.parameters():
        value.mul_(1.1)
    graphs = [export_tuned(first), export_tuned(dataclasses.replace(second, sha256="other"))]
    digests = {structure_digest(graph.path) for graph in graphs}
    assert graphs[0].sha256 != graphs[1].sha256 and len(digests) == 1


@pytest.mark.slow
def test_shifted_windows_pass_the_gate(cache: Path) -> None:
    graph = export_tuned(untrained("swinunetr", 12, (32, 32, 64)))
    assert graph.manifest["recipe"]["family"] == "windows3d"
    assert graph.manifest["lint"]["operators"]["Softmax"] == 8
    engine = build_engine(graph, backend="openvino")
    assert engine.manifest["parity"]["outputs"]["logits"]["relative_l2_max"] < 1e-4


@pytest.mark.slow
def test_typed_graphs_hold_typed_convolutions(cache: Path) -> None:
    graph = export_tuned(untrained("unet3d", 8, (32, 32, 32)), precision="fp16")
    assert graph.manifest["lint"]["matrix_products"] == {"FLOAT16": 23}
    with pytest.raises(ExportError, match="INT8"):
        export_tuned(untrained("unet3d", 8), precision="int8")


@pytest.mark.slow
def test_a_run_is_judged_and_predicts_on_its_engine(
    volumes: Dataset, loop: Callable[..., TrainSettings], tmp_path: Path
) -> None:
    """The sliding window around the engine, at a spacing of its own, gives PyTorch's masks."""
    settings = dataclasses.replace(PATCHES, spacing=(1.0, 1.0, 2.0), patch=(16, 32, 16))
    run = tmp_path / "run"
    trained = train_segmentation(settings, loop(epochs=2), volumes, run)
    request = RunRequest(run, precision="fp32", backend="openvino")
    results, _ = evaluate_run(request, volumes)
    assert trained.results is not None
    ours, theirs = (r.metric("dice", None, over="volumes") for r in (results, trained.results))
    assert ours.value == pytest.approx(theirs.value, abs=2e-3)
    assert results.provenance["engine"]["input_shape"] == [1, 16, 32, 16]
    gate = results.provenance["task_gate"]
    assert gate["agreement"] > 0.999 and abs(gate["difference"]) < 1e-3

    bundle = bundle_run(run, tmp_path / "bundle")
    assert "patches of 16 x 32 x 16" in (tmp_path / "bundle" / "MODEL_CARD.md").read_text()
    image = volumes.of_split("test")[0].path
    options = PredictOptions(backend="openvino", masks=("nifti",))
    done = predict(bundle, image, tmp_path / "answers", options)
    assert (done.answered, done.failed) == (1, 0)
    import nibabel as nib

    (written,) = (tmp_path / "answers" / "masks").glob("*.nii.gz")
    mask, source = nib.load(written), nib.load(image)
    np.testing.assert_array_equal(mask.affine, source.affine)
    wanted = segment_study(segmenter_of(load_tuned(run)), read_study(image))
    assert mask.shape == source.shape
    found = read_study(written).pixels.reshape(wanted.shape)
    assert (found == wanted).mean() > 0.999


@pytest.mark.slow
def test_an_engine_refuses_images_in_the_place_of_patches(cache: Path) -> None:
    from dinorad_rt.engines.build import open_runner

    engine = build_engine(export_tuned(untrained("unet3d", 4)), backend="openvino")
    with open_runner(engine) as runner:
        assert runner.infer(np.zeros((3, 1, *PATCH), np.float32))["logits"].shape == (3, 3, *PATCH)
        with pytest.raises(EngineError, match=r"\(batch, 1, 16, 16, 32\)"):
            runner.infer(np.zeros((1, 3, 16, 32), np.float32))
