"""The study's presets on real images: what they train, what changes, and where they end.

Head CT with the study's recipe of each method (SGD, rank 48, its augmentation and preprocessing),
and lung masks with its segmentation recipe (448 px, its U-Net decoder as coded, seven learning
rates searched, the best trained again). Only what `SHORT` and `FEW` say is changed, so that two
cores end within minutes; scores after so few steps say that the recipes run, not how good they are.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.harness import save, table

STUDY_METHODS = ("linear", "bitfit", "lora", "finetune")
SHORT = {"epochs": 4}
FEW = {"train": 16, "val": 4, "test": 8}
"""Images of each split of the lungs."""


def study(folder: Path) -> None:
    """All runs, kept as they come; a finished one is read."""
    from benchmarks.training import stored

    document = stored("training_study")
    rows: list[dict[str, Any]] = document.get("classification", [])
    done = {row["method"] for row in rows}
    for method in STUDY_METHODS:
        if method not in done:
            rows.append(classified(folder, method))
            save("training_study", document | {"changed": SHORT, "classification": rows})
    document |= {"changed": SHORT, "classification": rows}
    if "segmentation" not in document:
        document |= {"segmentation": segmented(folder)}
        save("training_study", document)
    hidden = ("auroc_interval", "changed_kinds", "losses")
    table([{k: v for k, v in row.items() if k not in hidden} for row in rows])
    table([{k: v for k, v in document["segmentation"].items() if not isinstance(v, list | dict)}])


def classified(folder: Path, method: str) -> dict[str, Any]:
    """One method on head CT, and what of the backbone has changed."""
    from benchmarks.training import MODEL, SETS, WEIGHTS, dataset_of
    from dinorad_rt.pipeline import EngineRequest
    from dinorad_rt.training.classify import train_classifier
    from dinorad_rt.training.presets import classify_preset

    changes: dict[str, Any] = {**SHORT, "device": "cpu"}
    recipe = classify_preset(method, "study").changed(**changes)  # type: ignore[arg-type]
    request = EngineRequest(model=MODEL, weights=str(WEIGHTS))
    out = folder / f"study-{method}"
    start = time.perf_counter()
    trained = train_classifier(request, recipe, dataset_of(SETS[0]), out, say=print)
    minutes = (time.perf_counter() - start) / 60
    history, results = trained.history, trained.results
    assert results is not None and history.best is not None
    auroc = results.metric("auroc")
    return {
        "method": method,
        "trained_backbone": trained.parameters["backbone_trained"],
        "head": trained.parameters["head"],
        "backbone": trained.parameters["backbone"],
        **_changes(out),
        "steps": history.epochs[-1].step,
        "losses": history.losses,
        "val_auroc": history.best.metrics["auroc"],
        "best_epoch": history.best.epoch,
        "test_auroc": auroc.value,
        "auroc_interval": [auroc.ci_low, auroc.ci_high],
        "n_test": auroc.n,
        "minutes": minutes,
    }


def _changes(out: Path) -> dict[str, Any]:
    """Tensors of the merged backbone that differ from the file's, by the kind of their layer."""
    from benchmarks.training import MODEL, WEIGHTS
    from dinorad_rt.backbones.load import load_backbone
    from dinorad_rt.training.checkpoint import load_tuned

    before = dict(load_backbone(MODEL, weights=WEIGHTS).module.named_parameters())
    backbone = load_tuned(out).backbone
    assert backbone is not None
    after = dict(backbone.module.named_parameters())
    assert before.keys() == after.keys()
    changed = [name for name, value in after.items() if not value.equal(before[name])]
    kinds = sorted({".".join(part for part in n.split(".") if not part.isdigit()) for n in changed})
    largest = max(
        (float((after[n] - before[n]).abs().max().detach()) for n in changed), default=0.0
    )
    return {
        "changed_tensors": len(changed),
        "tensors": len(before),
        "largest_change": largest,
        "changed_kinds": kinds,
    }


def segmented(folder: Path) -> dict[str, Any]:
    """The study's segmentation recipe on a part of the lungs."""
    from benchmarks.segmentation import LUNGS, WEIGHTS, dataset_of
    from benchmarks.segmentation import RUNS as SEGMENTATIONS
    from benchmarks.training import MODEL
    from dinorad_rt.files import read_json
    from dinorad_rt.training.segmentation.presets import segmentation_preset
    from dinorad_rt.training.segmentation.run import train_segmentation

    recipe = segmentation_preset("study").changed(model=MODEL, weights=str(WEIGHTS), **SHORT)
    dataset = dataset_of(SEGMENTATIONS["montgomery-frozen-unet"])
    samples = tuple(s for name, few in FEW.items() for s in dataset.of_split(name)[:few])
    dataset = replace(dataset, samples=samples, fingerprint=f"{dataset.fingerprint}-study")
    out = folder / "study-segmentation"
    start = time.perf_counter()
    found = train_segmentation(recipe.settings, recipe.loop, dataset, out, say=print)
    minutes = (time.perf_counter() - start) / 60
    assert found.results is not None
    searched = read_json(out.with_name(f"{out.name}-search") / "train.json")["history"]["epochs"]
    ends = {k: v for k, v in searched[-1]["metrics"].items() if k.startswith("dice_pooled lr=")}
    dices = {m.setting["over"]: m.value for m in found.results.metrics if _is_mean_dice(m)}
    facts = read_json(out / "train.json")
    return {
        "set": LUNGS[0],
        "images": FEW,
        "settings": recipe.settings.as_dict(),
        "search_dice": ends,
        "search_losses": [epoch["loss"] for epoch in searched],
        "lr": facts["settings"]["lr"] if "settings" in facts else None,
        "losses": found.history.losses,
        "test_dice_pooled": dices["pixels"],
        "test_dice_volumes": dices["volumes"],
        "minutes": minutes,
    }


def _is_mean_dice(metric: Any) -> bool:
    return metric.name == "dice" and metric.class_name is None
