"""Classifiers from images to a run folder, loaded again, exported, and judged on an engine."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from dinorad_rt.datasets.dataset import Dataset
from dinorad_rt.datasets.open import open_dataset
from dinorad_rt.errors import (
    DataError,
    EmptyDataError,
    OutputExistsError,
    RunError,
    WeightsError,
)
from dinorad_rt.files import only_writer
from dinorad_rt.pipeline import EngineRequest
from dinorad_rt.training.checkpoint import load_tuned
from dinorad_rt.training.classifier import Classifier
from dinorad_rt.training.classify import Trained, train_classifier, training_spec
from dinorad_rt.training.classify_data import TrainingImages
from dinorad_rt.training.classify_job import ClassifyJob
from dinorad_rt.training.evaluate import RunRequest, evaluate_run, logits_of, torch_inference
from dinorad_rt.training.images import ImageBank
from dinorad_rt.training.presets import ClassifyRecipe, classify_preset

REQUEST = EngineRequest(model="test_vit", weights="random", image_size=32)


def recipe_of(protocol: Any = "lora", **choices: Any) -> ClassifyRecipe:
    small = dict(epochs=2, batch_size=6, rank=4, lr=1e-3, device="cpu")
    return classify_preset(protocol).changed(**small | choices)


def run_of(dataset: Dataset, out: Path, protocol: Any = "lora", **choices: Any) -> Trained:
    return train_classifier(REQUEST, recipe_of(protocol, **choices), dataset, out)


@pytest.fixture
def dataset(images: Any, tmp_path: Path, cache: Path) -> Dataset:
    return open_dataset(images(tmp_path / "images"))


def of_split(dataset: Dataset, split: str, to: str) -> Dataset:
    moved = (replace(s, split=to) if s.split == split else s for s in dataset.samples)  # type: ignore[arg-type]
    return replace(dataset, samples=tuple(moved))


@pytest.mark.parametrize("protocol", ["finetune", "lora", "bitfit", "linear"])
def test_a_run_loads_again_as_it_was_trained(
    protocol: str, dataset: Dataset, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    trained = run_of(dataset, run, protocol)
    tuned = load_tuned(run)
    assert tuned.class_names == ("c0", "c1") and tuned.task == "binary"
    assert (run / "adapter").is_dir() == (protocol == "lora")
    samples = dataset.of_split("test")
    found = logits_of(samples, tuned.preprocessing, torch_inference(tuned), 4, workers=1)
    shown = pq.read_table(run / "predictions.parquet").to_pydict()
    wanted = torch.tensor(found.values).softmax(1).numpy()
    assert shown["sample_id"] == [sample.sample_id for sample in samples]
    np.testing.assert_allclose(np.asarray(shown["scores"]), wanted, atol=1e-5)
    assert trained.results is not None and trained.results.is_random
    facts = json.loads((run / "train.json").read_text())
    assert str(tmp_path) not in json.dumps(facts)
    names = set(torch.nn.Module.state_dict(tuned.module))
    assert not any("lora" in name for name in names)


def test_auroc_is_that_of_scikit_learn(dataset: Dataset, tmp_path: Path) -> None:
    from sklearn.metrics import roc_auc_score

    trained = run_of(dataset, tmp_path / "run", epochs=1, lr=1e-5, head_init="random")
    assert trained.results is not None
    shown = pq.read_table(tmp_path / "run/predictions.parquet").to_pydict()
    truth = [labels[0] for labels in shown["labels"]]
    wanted = roc_auc_score(truth, [scores[1] for scores in shown["scores"]])
    assert trained.results.metric("auroc").value == pytest.approx(wanted)


def test_it_learns_what_is_plain_to_see(dataset: Dataset, tmp_path: Path) -> None:
    trained = run_of(
        dataset, tmp_path / "run", "finetune", epochs=8, lr=1e-3, head_init="random",
        layer_decay=1.0, augmentation="none", standardise=False,
    )  # fmt: skip
    assert trained.history.losses[-1] < 0.5 * trained.history.losses[0]
    assert trained.results is not None
    assert trained.results.metric("auroc").value == 1.0


def test_resumed_is_uninterrupted(dataset: Dataset, tmp_path: Path) -> None:
    options: dict[str, Any] = dict(epochs=3, dropout=0.2, save_minutes=1e-9)
    whole = run_of(dataset, tmp_path / "whole", **options)

    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_classifier(REQUEST, recipe_of(**options), dataset, tmp_path / "broken", progress=stop)
    assert not (tmp_path / "broken/results.json").exists()
    again = run_of(dataset, tmp_path / "broken", **options)
    assert again.history.losses == whole.history.losses
    first, second = (
        pq.read_table(tmp_path / name / "predictions.parquet") for name in ("whole", "broken")
    )
    assert first.equals(second)


def test_multilabel_and_probe(images: Any, tmp_path: Path, cache: Path) -> None:
    root = images(tmp_path / "images")
    lines = ["image,oedema,mass,patient,split"]
    for line in (root / "labels.csv").read_text().splitlines()[1:]:
        name, label, patient, split = line.split(",")
        index = int(patient[1:])
        lines.append(f"{name},{label[1:]},{int(index % 3 == 0)},{patient},{split}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    dataset = open_dataset(root, label_column="oedema,mass")
    assert dataset.task == "multilabel"
    trained = run_of(dataset, tmp_path / "run", head_init="probe")
    assert trained.results is not None
    assert trained.results.metric("auroc", "oedema").value is not None
    assert load_tuned(tmp_path / "run").class_names == ("oedema", "mass")


def test_rare_classes_weigh_alike_in_batches_of_any_size(dataset: Dataset, tmp_path: Path) -> None:
    """Out of memory, users are told to take smaller batches and accumulate."""
    rare = [s for s in dataset.of_split("train") if s.labels == (1,)][:5]
    kept = tuple(s for s in dataset.samples if s.split != "train" or s.labels == (0,) or s in rare)
    uneven = replace(dataset, samples=kept)
    losses = [
        run_of(
            uneven, tmp_path / str(size), "linear", batch_size=size, accumulate=14 // size
        ).history.losses
        for size in (14, 2, 1)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert losses[2] == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_weights_do_not_move_what_a_smoothed_target_asks_for(
    task: Any, dataset: Dataset, backbone_of: Any
) -> None:
    """Weighted or not, the loss of each image is least at its target; without smoothing it is
    PyTorch's, up to the sum of the weights."""
    recipe = recipe_of("finetune", label_smoothing=0.1)
    spec = training_spec(recipe, backbone_of())
    bank = ImageBank(dataset.of_split("train"), spec, workers=1)
    classes = 2 if task == "binary" else 3
    bank.labels = torch.arange(len(bank)).clamp(max=classes - 1)  # one image each of all but one
    if task == "multilabel":
        bank.labels = nn.functional.one_hot(bank.labels, classes)
    job = ClassifyJob(
        Classifier(backbone_of(), recipe.head, classes), recipe, task, (bank, bank), {}
    )
    hot = bank.labels if task == "multilabel" else nn.functional.one_hot(bank.labels, classes)
    target = hot * 0.9 + (0.05 if task == "multilabel" else 0.1 / classes)
    wanted = torch.logit(target) if task == "multilabel" else target.log()
    logits = wanted.clone().requires_grad_(True)
    job._criterion(logits, bank.labels, smooth=True).backward()
    assert logits.grad is not None and logits.grad.abs().max() < 1e-7

    scores = torch.randn(len(bank), classes, generator=torch.Generator().manual_seed(0))
    found = job._criterion(scores, bank.labels, smooth=False)
    if task == "multilabel":
        loss = nn.functional.binary_cross_entropy_with_logits(
            scores, bank.labels.float(), pos_weight=job._weights
        )
    else:
        loss = nn.functional.cross_entropy(scores, bank.labels, weight=job._weights)
        loss = loss * job._weights[bank.labels].mean()
    torch.testing.assert_close(found, loss)


def test_the_batches_of_one_process_are_made_alone(
    dataset: Dataset, tmp_path: Path, backbone_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(batch_size=3)
    backbone = backbone_of()
    spec = training_spec(recipe, backbone)
    banks = tuple(ImageBank(dataset.of_split(split), spec, workers=1) for split in ("train", "val"))
    model = Classifier(backbone, recipe.head, 2)
    job = ClassifyJob(model, recipe, "binary", (banks[0], banks[1]), {})
    whole = list(job.train_batches(1, seed=3))
    made: list[int] = []
    plain = TrainingImages.sample
    monkeypatch.setattr(
        TrainingImages,
        "sample",
        lambda rows, index, *at: made.append(index) or plain(rows, index, *at),
    )
    part = list(job.train_batches(1, seed=3, start=1, step=2))
    assert len(made) == sum(len(batch["labels"]) for batch in part) < len(banks[0])
    for first, second in zip(whole[1::2], part, strict=True):
        assert torch.equal(first["pixels"], second["pixels"])


def test_a_volume_is_the_mean_of_its_slices(images: Any, tmp_path: Path, cache: Path) -> None:
    dataset = open_dataset(images(tmp_path / "images", volumes=True))
    trained = run_of(dataset, tmp_path / "run", slices=2)
    assert trained.results is not None
    tuned = load_tuned(tmp_path / "run")
    assert tuned.backbone is not None
    from dinorad_rt.embeddings.loader import load_batches

    sample = dataset.of_split("test")[0]
    (batch,) = load_batches([sample], tuned.preprocessing, batch=16, workers=1)
    assert len(batch.pixels) > 2
    with torch.no_grad():
        features = tuned.module.features(torch.from_numpy(batch.pixels.copy()))  # type: ignore[operator]
        wanted = tuned.module.head(features.mean(0, keepdim=True)).softmax(1)  # type: ignore[operator]
    shown = pq.read_table(tmp_path / "run/predictions.parquet").to_pydict()
    np.testing.assert_allclose(shown["scores"][0], wanted[0].numpy(), atol=1e-5)


def test_the_tuned_engine_answers_like_pytorch(dataset: Dataset, tmp_path: Path) -> None:
    run = tmp_path / "run"
    trained = run_of(dataset, run, blocks=4)
    results, folder = evaluate_run(
        RunRequest(run, precision="fp32", backend="onnxruntime"), dataset, workers=1
    )
    assert folder == run / "engine"
    gate = results.provenance["task_gate"]
    assert abs(gate["difference"]) < 1e-6 and gate["agreement"] == 1.0
    assert results.provenance["engine"]["backend"] == "onnxruntime"
    assert trained.results is not None
    first, second = (
        pq.read_table(path / "predictions.parquet").to_pydict()["scores"] for path in (run, folder)
    )
    np.testing.assert_allclose(first, second, atol=1e-4)


def test_an_interrupted_export_leaves_nothing(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dinorad_rt.training import export

    run_of(dataset, tmp_path / "run", epochs=1)
    tuned = load_tuned(tmp_path / "run")

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dinorad_rt.export.parity.check_outputs", stop)
    with pytest.raises(KeyboardInterrupt):
        export.export_tuned(tuned, out=tmp_path / "graph")
    assert [p for p in tmp_path.glob("*graph*") if any(p.iterdir())] == []
    monkeypatch.undo()
    monkeypatch.setenv("DINORAD_RT_CACHE", str(tmp_path / "cache"))
    graph = export.export_tuned(tuned, out=tmp_path / "graph")
    assert graph.outputs["logits"] == (2,)


def test_splits_that_cannot_serve_are_refused_before_any_work(
    dataset: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(EmptyDataError, match="no val images to choose the best epoch by"):
        run_of(of_split(dataset, "val", "train"), tmp_path / "run")
    single = replace(
        dataset,
        samples=tuple(s for s in dataset.samples if s.split != "val" or s.labels == (0,)),
    )
    with pytest.raises(DataError, match="All 3 val images .* have the same labels"):
        run_of(single, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_classes_that_only_validation_shows_have_a_loss(tmp_path: Path, cache: Path) -> None:
    """Their weight is 0 in training, where none is; the mean over them alone has to be a number."""
    rows = ["image,label,split"]
    for number in range(24):
        split = ("train", "train", "val", "test")[number % 4]
        label = number // 4 % 2 + (2 if split == "val" else 0)
        pixels = np.random.default_rng(number).integers(0, 255, (32, 32), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,c{label},{split}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    recipe = classify_preset("linear").changed(epochs=1, device="cpu")
    request = EngineRequest(model="test_vit", weights="random", image_size=32)
    trained = train_classifier(request, recipe, open_dataset(tmp_path), tmp_path / "run")
    assert np.isfinite(trained.history.epochs[0].metrics["loss"])


def test_a_run_of_other_data_is_refused(images: Any, dataset: Dataset, tmp_path: Path) -> None:
    run_of(dataset, tmp_path / "run", epochs=1)
    other = open_dataset(images(tmp_path / "other", classes=3))
    with pytest.raises(OutputExistsError, match=r"data\.class_names"):
        run_of(other, tmp_path / "run", epochs=1)
    with pytest.raises(RunError, match="binary classes c0, c1; other has multiclass classes c0"):
        evaluate_run(RunRequest(tmp_path / "run", backend="onnxruntime"), other)


def test_weights_below_are_found_again_or_asked_for(
    dataset: Dataset, tmp_path: Path, backbone_of: Any
) -> None:
    file = tmp_path / "weights.safetensors"
    state = backbone_of("test_vit", 160).module.state_dict()
    save_file({k: v.contiguous() for k, v in state.items()}, file)
    request = replace(REQUEST, weights=str(file))
    train_classifier(request, recipe_of(epochs=1), dataset, tmp_path / "run")
    load_tuned(tmp_path / "run")
    moved = tmp_path / "elsewhere.safetensors"
    file.rename(moved)
    with pytest.raises(WeightsError, match="has moved"):
        load_tuned(tmp_path / "run")
    load_tuned(tmp_path / "run", weights=moved)
    with pytest.raises(RunError, match="these are"):
        load_tuned(tmp_path / "run", weights="random")


def test_damaged_runs_are_named(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"holds no train\.json"):
        load_tuned(tmp_path)
    run_of(dataset, tmp_path / "run", epochs=1)
    shutil.copytree(tmp_path / "run", tmp_path / "torn")
    best = tmp_path / "torn/best.safetensors"
    best.write_bytes(best.read_bytes()[:100])
    with pytest.raises(RunError, match="damaged"):
        load_tuned(tmp_path / "torn")
    best.unlink()
    with pytest.raises(RunError, match="no epoch was finished"):
        load_tuned(tmp_path / "torn")


@pytest.mark.slow
def test_a_tuned_engine_takes_the_weights_of_the_next_run(dataset: Dataset, tmp_path: Path) -> None:
    from dinorad_rt.engines.build import get_or_build, open_runner
    from dinorad_rt.engines.profile import load_profile
    from dinorad_rt.engines.refit import refit_engine
    from dinorad_rt.training.export import export_tuned

    tuned = []
    for protocol in ("linear", "finetune"):
        run_of(dataset, tmp_path / protocol, protocol, epochs=1)
        tuned.append(load_tuned(tmp_path / protocol))
    graphs = [export_tuned(item) for item in tuned]
    profile = load_profile("default")
    first = get_or_build(graphs[0], backend="openvino", profile=profile)
    second = refit_engine(graphs[1], backend="openvino", profile=profile)
    assert second.key != first.key and second.manifest["refit"]["base"] == first.key
    pixels = np.random.default_rng(0).standard_normal((3, 3, 32, 32)).astype(np.float32)
    with open_runner(second) as runner:
        found = runner.infer(pixels)["logits"]
    np.testing.assert_allclose(found, torch_inference(tuned[1])(pixels), atol=1e-4)
    assert np.abs(found - torch_inference(tuned[0])(pixels)).max() > 1e-3


def test_a_foreign_folder_is_refused_before_any_work(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "notes.txt").touch()
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "train.json").write_text('{"format"')
    (tmp_path / "cut-state").mkdir()
    torch.save({"format": 1}, tmp_path / "cut-state" / "last.pt")
    (tmp_path / "cut-state" / "train.json").write_text('{"format": 1}')
    os.truncate(tmp_path / "cut-state" / "last.pt", 300)
    said: list[str] = []
    for name, kind in (("theirs", OutputExistsError), ("cut", RunError), ("cut-state", RunError)):
        with pytest.raises(kind):
            train_classifier(REQUEST, recipe_of(), dataset, tmp_path / name, say=said.append)
    (tmp_path / "busy").mkdir()
    with only_writer(tmp_path / "busy"), pytest.raises(OutputExistsError, match="Another process"):
        train_classifier(REQUEST, recipe_of(), dataset, tmp_path / "busy", say=said.append)
    assert not [line for line in said if "decoding" in line]


def test_a_run_has_its_folder_alone_while_it_decodes(dataset: Dataset, tmp_path: Path) -> None:
    refused: list[str] = []

    def second(line: str) -> None:
        if "decoding" in line and not refused:
            with pytest.raises(OutputExistsError) as caught:
                train_classifier(REQUEST, recipe_of(), dataset, tmp_path / "run")
            refused.append(caught.value.problem)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_classifier(REQUEST, recipe_of(), dataset, tmp_path / "run", say=second)
    assert f"(process {os.getpid()})" in refused[0] or sys.platform != "linux"


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_that_shows_one_class_once_it_is_read_is_refused(
    split: str, dataset: Dataset, tmp_path: Path
) -> None:
    """No epoch could be told from another by an AUROC that has no value."""
    for sample in dataset.of_split(split):  # type: ignore[arg-type]
        if sample.labels == (1,):
            sample.path.write_bytes(b"\x89PNG\r\n\x1a\nno image")
    with pytest.raises(DataError, match=f"{split} images of images that can be read"):
        run_of(dataset, tmp_path / "run", epochs=1)


def test_test_images_that_cannot_be_read_are_told_in_the_results(
    dataset: Dataset, tmp_path: Path
) -> None:
    dataset.of_split("test")[0].path.write_bytes(b"\x89PNG\r\n\x1a\nno image")
    results = run_of(dataset, tmp_path / "run", "linear", epochs=1).results
    assert results is not None and results.metric("auroc").n == 5
    assert any(note.startswith("1 image or slice could not be read") for note in results.notes)


def test_results_that_were_cut_say_what_to_do(dataset: Dataset, tmp_path: Path) -> None:
    first = run_of(dataset, tmp_path / "run", epochs=1)
    (tmp_path / "run/results.json").write_text("{")
    with pytest.raises(RunError, match=r"results\.json") as caught:
        run_of(dataset, tmp_path / "run", epochs=1)
    assert "Remove results.json" in caught.value.fix
    (tmp_path / "run/results.json").unlink()
    again = run_of(dataset, tmp_path / "run", epochs=1)
    assert first.results is not None and again.results is not None
    assert again.results.metric("auroc").value == first.results.metric("auroc").value
