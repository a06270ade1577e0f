"""Segmentation on real data: from scratch against a frozen encoder, and what cached tokens save.

    hippocampus, MR volumes   U-Net in 3-D from scratch (bar: 0.82 mean foreground Dice per volume),
                              and frozen DeiT-tiny with the U-Net decoder, slice by slice
    Montgomery, chest X-rays  frozen DeiT-tiny with the U-Net decoder (bar: 0.93 Dice)
    speed                     decoder steps on cached tokens against running the encoder at each
                              step, same decoder, same batches (bar: 3); the study's backbones
                              with random weights beside DeiT-tiny
    engines                   three runs exported, gated on validation volumes, compiled for SM80
                              and SM89, refitted against built
    predict                   a bundle on real DICOM and NIfTI; its masks opened by other libraries

`engines` and `predict` take the runs below --out, or train them shortly (`short`), which their JSON
says. Each run is a folder below --out and goes on where it was stopped; a finished one is read. The
data lies in a folder `shared` beside the checkout, or in $DINORAD_RT_SHARED.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS, interleave, load, median_of_ratios, save, table
from dinorad_rt.datasets.open import open_dataset
from dinorad_rt.files import read_json
from dinorad_rt.pipeline import EngineRequest
from dinorad_rt.training.segmentation.names import DECODERS
from dinorad_rt.training.segmentation.settings import SegmentationSettings
from dinorad_rt.training.settings import TrainSettings

ROOT = Path(__file__).resolve().parents[2] / "shared"
DATA = Path(os.environ.get("DINORAD_RT_SHARED", ROOT)) / "data"
WEIGHTS = DATA / "weights" / "deit_tiny_patch16_224" / "model.safetensors"
FROZEN = SegmentationSettings(
    model="deit_tiny_patch16_224", weights=str(WEIGHTS), decoder="unet", encoder="cached"
)
SPEED = (
    ("deit_tiny_patch16_224", str(WEIGHTS), 8),
    ("vits14", "random", 8),
    ("vitb14", "random", 4),
    ("vitl14", "random", 2),
    ("vitg14", "random", 2),
)
"""Backbone, weights, batch: the study's backbones beside the one whose weights lie here."""
ROUNDS, BAR = 3, 3.0
PRECISIONS = ("fp32", "fp16", "bf16")
LOOP = TrainSettings(lr=1e-3, weight_decay=0.01, warmup=0.05, batch_size=16)


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        data: folder of the dataset.
        settings, loop: as for `train_segmentation`.
        bar: Dice over volumes that it shall reach; None for none.
        classes: what the labels of the masks are called.
        short: epochs or steps of a run that is trained for its engine alone; empty for none.
    """

    data: str
    settings: SegmentationSettings
    loop: TrainSettings
    bar: float | None = None
    classes: tuple[str, ...] = field(default=())
    short: dict[str, int] = field(default_factory=dict)


HIPPOCAMPUS = ("mr_hippocampus3d", ("background", "anterior", "posterior"))
LUNGS = ("cxr_montgomery_tb_lung", ("background", "lung"))

RUNS = {
    "hippocampus-unet3d": Run(
        HIPPOCAMPUS[0],
        SegmentationSettings(model="unet3d", width=12, patch=(32, 48, 32), per_volume=4),
        replace(LOOP, batch_size=4, epochs=24, lr=2e-3),
        0.82,
        HIPPOCAMPUS[1],
        {"epochs": 10},
    ),
    "hippocampus-frozen-unet": Run(
        HIPPOCAMPUS[0],
        FROZEN,
        replace(LOOP, epochs=3),
        None,
        HIPPOCAMPUS[1],
        {"epochs": 1, "steps": 40},
    ),
    "montgomery-frozen-unet": Run(
        LUNGS[0],
        replace(FROZEN, views=3),
        replace(LOOP, batch_size=8, epochs=16),
        0.93,
        LUNGS[1],
        {"epochs": 6},
    ),
    "montgomery-frozen-linear": Run(
        LUNGS[0],
        replace(FROZEN, decoder="linear", views=3),
        replace(LOOP, batch_size=8, epochs=20),
        None,
        LUNGS[1],
    ),
}


def main() -> None:
    """Train what is not there yet, measure the speed, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-segmentation"))
    parts = {"engines": deployed, "predict": predicted}
    choices = [*RUNS, "speed", *parts]
    parser.add_argument("--only", nargs="*", default=[*RUNS, "speed"], choices=choices)
    arguments = parser.parse_args()
    if set(arguments.only) <= set(parts):
        for name in arguments.only:
            parts[name](arguments.out)
        return
    target = RESULTS / "segmentation.json"
    document: dict[str, Any] = read_json(target) if target.is_file() else {}
    runs: dict[str, Any] = document.get("runs", {})
    for name in arguments.only:
        if name == "speed":
            document["speed"] = measure_speed(document.get("speed", {}).get("rows", []))
        elif name in parts:
            parts[name](arguments.out)
        else:
            runs[name] = train(name, arguments.out / name)
        kept = {key: document[key] for key in ("speed",) if key in document}
        save("segmentation", {"runs": runs, **kept})
    table([{"run": name, **_shown(found)} for name, found in runs.items()])
    table(document.get("speed", {}).get("rows", []))


def deployed(out: Path) -> None:
    """The part `engines`: run by run, kept as it comes."""
    from benchmarks.segmentation_deployed import ENGINES, compiled_rows, engine_rows, refit_row

    stored = load(ENGINES)
    parts = ("trained", "engines", "tensorrt_rtx", "refit")
    document: dict[str, Any] = {key: stored.get(key, []) for key in parts}
    done = {row["run"] for row in document["refit"]}
    for name, run in RUNS.items():
        if not run.short or name in done:
            continue
        folder, trained = trained_run(name, out)
        for part in parts:  # of a run that was interrupted
            document[part] = [row for row in document[part] if row["run"] != name]
        document["trained"].append({"run": name, **trained})
        document["engines"] += engine_rows(folder, name, dataset_of(run), PRECISIONS)
        document["tensorrt_rtx"] += compiled_rows(folder, name)
        save(ENGINES, document)
        document["refit"].append(refit_row(folder, name))
        save(ENGINES, document)
    keys = ("verdict", "dice_reference", "dice_engine", "difference", "low", "high", "agreement")
    judged = [row for row in document["engines"] if "gate" in row]
    table([{"run": row["run"], **{k: row["gate"][k] for k in keys}} for row in judged])
    table(document["refit"])


def predicted(out: Path) -> None:
    """The part `predict`: the 3-D network of the hippocampus, whose data has DICOM beside it."""
    from benchmarks.segmentation_deployed import predict_files

    folder, trained = trained_run("hippocampus-unet3d", out)
    test = dataset_of(RUNS["hippocampus-unet3d"]).of_split("test")
    others = DATA / "ct_mr_3d_totalseg"
    nifti = [*(sample.path for sample in test[:3]), *sorted(others.glob("example_??_sm.nii.gz"))]
    predict_files(folder, DATA / "mr_dicom_series", nifti, trained)


def trained_run(name: str, out: Path) -> tuple[Path, dict[str, Any]]:
    """A finished run below `out`, or a short one trained now; and how it was trained."""
    run, folder = RUNS[name], out / name
    if not (folder / "results.json").is_file():
        folder, run = out / f"{name}-short", replace(run, loop=replace(run.loop, **run.short))
        train(name, folder, run)
    facts, results = read_json(folder / "train.json"), read_json(folder / "results.json")
    dice = next(m for m in results["metrics"] if _is_dice(m))
    return folder, {
        "short": folder.name.endswith("-short"),
        "epochs": len(facts["history"]["epochs"]),
        "epochs_in_full": RUNS[name].loop.epochs,
        "steps": facts["history"]["epochs"][-1]["step"],
        "test_dice": dice["value"],
        "train_s": results["timings"]["train_s"],
    }


def dataset_of(run: Run) -> Any:
    """Its images and masks."""
    return open_dataset(DATA / run.data, task="segmentation", class_names=run.classes)


def train(name: str, out: Path, run: Run | None = None) -> dict[str, Any]:
    """Train and judge a run, or read its results."""
    run = run or RUNS[name]
    print(f"\n{name}")
    if not (out / "results.json").is_file():
        from dinorad_rt.training.segmentation.run import train_segmentation

        train_segmentation(
            run.settings,
            run.loop,
            dataset_of(run),
            out,
            request=EngineRequest(backend="openvino", precision="fp32"),
            say=print,
        )
    results, history = read_json(out / "results.json"), read_json(out / "train.json")["history"]
    metrics = [
        {key: m[key] for key in ("name", "setting", "class_name", "value", "ci_low", "ci_high")}
        for m in results["metrics"]
    ]
    dice = next(m["value"] for m in metrics if _is_dice(m))
    return {
        "settings": results["settings"],
        "loop": run.loop.as_dict(),
        "seconds_per_epoch": statistics.median(e["seconds"] for e in history["epochs"]),
        "test_volumes": results["metrics"][0]["n"],
        "dice": dice,
        "bar": run.bar,
        "reached": None if run.bar is None else dice >= run.bar,
        "metrics": metrics,
        "best_epoch": history["best_epoch"],
        "epochs": [
            {key: epoch[key] for key in ("epoch", "step", "loss", "metrics", "seconds")}
            for epoch in history["epochs"]
        ],
        "timings": results["timings"],
        "notes": results["notes"],
    }


def measure_speed(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Seconds of one optimiser step with cached tokens and with the encoder run at each step.

    Rows that are there are kept.

    Processor time of one thread, in turns: other load on the machine does not count. The U-Net
    decoder on cached tokens is also stepped by its layers as written, without the shorter way.
    """
    import torch

    torch.set_num_threads(1)
    done = {(row["model"], row["decoder"]) for row in rows}
    for model, weights, batch in SPEED:
        for decoder in DECODERS:
            if (model, decoder) in done:
                continue
            rows.append(_compare(model, weights, decoder, batch))
            table(rows[-1:])
    facts = {"bar": BAR, "precision": "fp32", "image_size": 224, "rounds": ROUNDS}
    return {**facts, "clock": "processor time of one thread", "rows": rows}


def _compare(model: str, weights: str, decoder: str, batch: int) -> dict[str, Any]:
    """The ways of stepping in turns, on the same images."""
    from dinorad_rt.training.segmentation import decoders

    steps = {"cached": _stepper(model, weights, decoder, "cached", batch)}
    steps["frozen"] = _stepper(model, weights, decoder, "frozen", batch)
    rule = decoders.shorter_is_worth_it

    def as_written() -> None:
        decoders.shorter_is_worth_it = lambda *_, **__: False
        steps["cached"]()
        decoders.shorter_is_worth_it = rule

    written = {"written": as_written} if decoder != "linear" else {}
    seconds = interleave({**steps, **written}, rounds=ROUNDS, clock=time.process_time)
    ratio = median_of_ratios(seconds["frozen"], seconds["cached"])
    row = {
        "model": model,
        "weights": "random" if weights == "random" else "file",
        "decoder": decoder,
        "batch": batch,
        "cached_s": statistics.median(seconds["cached"]),
        "encoder_each_step_s": statistics.median(seconds["frozen"]),
        "ratio": ratio,
        "reached": ratio >= BAR,
    }
    if written:
        row["as_written_over_cached"] = median_of_ratios(seconds["written"], seconds["cached"])
    return row


def _few() -> Any:
    """16 training images and 4 others."""
    dataset = open_dataset(DATA / LUNGS[0], task="segmentation", class_names=LUNGS[1])
    small = tuple(s for s in dataset.samples if s.split == "train")[:16]
    few = tuple(s for s in dataset.samples if s.split != "train")[:4]
    return replace(dataset, samples=(*small, *few), fingerprint=f"{dataset.fingerprint}-16")


def _stepper(
    model: str, weights: str, decoder: str, encoder: str, batch: int
) -> Callable[[], None]:
    """One optimiser step on a batch, from reading the items to the update."""
    import torch

    from dinorad_rt.training.segmentation.prepare import prepare
    from dinorad_rt.training.segmentation.work import Work

    settings = SegmentationSettings(
        model=model,
        weights=weights,
        image_size=224,
        decoder=decoder,
        encoder=encoder,  # type: ignore[arg-type]
        augmentation="none",
    )

    request = EngineRequest(
        model=settings.model,
        weights=settings.weights,
        image_size=settings.image_size,
        backend="openvino",
        precision="fp32",
        dense=True,
    )
    loop = replace(LOOP, batch_size=batch)
    work = Work(settings, loop, _few(), request, None, lambda _: None, None)
    job = prepare(work).job
    job.train_mode()
    groups = [p for group in job.parameter_groups() for p in group["params"]]
    optimizer = torch.optim.AdamW(groups, lr=loop.lr)
    epochs = iter(range(10_000))

    def step() -> None:
        batch = next(iter(job.train_batches(next(epochs), 0)))
        loss, _ = job.loss(batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _is_dice(metric: dict[str, Any]) -> bool:
    return (metric["name"], metric["setting"]["over"], metric["class_name"]) == (
        "dice",
        "volumes",
        None,
    )


def _shown(found: dict[str, Any]) -> dict[str, Any]:
    values = {
        m["name"]: m["value"]
        for m in found["metrics"]
        if m["class_name"] is None and m["setting"]["over"] == "volumes"
    }
    return {**values, "bar": found["bar"], "train_s": found["timings"].get("train_s")}


if __name__ == "__main__":
    started = time.perf_counter()
    main()
    print(f"{time.perf_counter() - started:.0f} s in all")
