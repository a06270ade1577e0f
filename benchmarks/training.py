"""Linear head, LoRA and full fine-tuning on real images; and the loop's own cost.

    python -m benchmarks.training accuracy --limit 2   the next two missing runs; again for more
    python -m benchmarks.training throughput --method lora   fit() against a bare loop of PyTorch
    python -m benchmarks.training engines --limit 1    PyTorch against the engine, RTX compiles
    python -m benchmarks.training refit                new weights into an engine, against a build
    python -m benchmarks.training study                the study's presets, shortly

Accuracy: DeiT-tiny, three sets, three seeds, presets as shipped but for epochs and precision.
Hyper-parameters were set before the test images were looked at; the validation split chooses the
epoch. Results are kept run by run, so an interrupted series goes on.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import RESULTS, interleave, median_of_ratios, save, table

SHARED = Path(os.environ.get("DINORAD_RT_SHARED", Path(__file__).resolve().parents[2] / "shared"))
SETS = ("ct_head_hemorrhage", "mri_brain_tumor_yesno", "cxr_montgomery_tb_lung")
METHODS = ("linear", "lora", "finetune")
SEEDS = (0, 1, 2)
EPOCHS = 5
MODEL = "deit_tiny_patch16_224"
WEIGHTS = SHARED / "data/weights" / MODEL / "model.safetensors"


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("accuracy", "throughput", "engines", "refit", "study"))
    parser.add_argument("--limit", type=int, default=100, help="runs at most")
    parser.add_argument("--sets", nargs="+", default=SETS, choices=SETS, help="accuracy, engines")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmark"))
    parser.add_argument("--method", choices=METHODS[1:], default="finetune", help="throughput")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.part == "accuracy":
        accuracy(arguments.runs, arguments.sets, arguments.limit)
    elif arguments.part == "throughput":
        throughput(arguments.method, arguments.rounds)
    elif arguments.part == "engines":
        engines(arguments.runs, arguments.sets, arguments.limit)
    elif arguments.part == "study":
        from benchmarks.training_study import study

        study(arguments.runs)
    else:
        refit(arguments.runs, arguments.rounds)


def dataset_of(name: str) -> Any:
    """One of the sets; Montgomery by its tuberculosis label."""
    from dinorad_rt.datasets.open import open_dataset

    columns = {"label_column": "label"} if name == "cxr_montgomery_tb_lung" else {}
    return open_dataset(SHARED / "data" / name, **columns)


def stored(name: str) -> dict[str, Any]:
    """What an earlier call wrote."""
    from dinorad_rt.files import read_json

    path = RESULTS / f"{name}.json"
    return read_json(path) if path.is_file() else {}


def accuracy(folder: Path, sets: Sequence[str], limit: int) -> None:
    """The missing runs, then comparisons of what is there; several processes may share the work."""
    import filelock

    runs: list[dict[str, Any]] = stored("training").get("runs", [])
    done = {(run["set"], run["method"], run["seed"]) for run in runs}
    missing = [
        (name, method, seed)
        for seed in SEEDS
        for name in sets
        for method in METHODS
        if (name, method, seed) not in done
    ]
    for name, method, seed in missing[:limit]:
        found = one_run(folder, name, method, seed)
        with filelock.FileLock(folder / "results.lock"):
            runs = [*stored("training").get("runs", []), found]
            document = {
                "model": MODEL,
                "epochs": {"linear": "preset", "lora": EPOCHS, "finetune": EPOCHS},
                "precision": "bf16",
                "runs": runs,
                "comparisons": comparisons(folder, runs),
            }
            save("training", document)
    table([{k: v for k, v in run.items() if k != "auroc_interval"} for run in runs])


def one_run(folder: Path, name: str, method: str, seed: int) -> dict[str, Any]:
    """Train, select on validation, judge once on test."""
    from dinorad_rt.pipeline import EngineRequest
    from dinorad_rt.training.classify import train_classifier
    from dinorad_rt.training.presets import classify_preset

    changes: dict[str, Any] = {"seed": seed, "precision": "bf16", "device": "cpu"}
    if method != "linear":
        changes["epochs"] = EPOCHS
    recipe = classify_preset(method).changed(**changes)  # type: ignore[arg-type]
    request = EngineRequest(model=MODEL, weights=str(WEIGHTS), seed=seed)
    start = time.perf_counter()
    trained = train_classifier(
        request, recipe, dataset_of(name), folder / f"{name}-{method}-{seed}", say=print
    )
    assert trained.results is not None and trained.history.best is not None
    auroc = trained.results.metric("auroc")
    return {
        "set": name,
        "method": method,
        "seed": seed,
        "val_auroc": trained.history.best.metrics["auroc"],
        "best_epoch": trained.history.best.epoch,
        "test_auroc": auroc.value,
        "auroc_interval": [auroc.ci_low, auroc.ci_high],
        "n_test": auroc.n,
        "trained_parameters": trained.parameters["backbone_trained"] + trained.parameters["head"],
        "first_loss": trained.history.losses[0],
        "last_loss": trained.history.losses[-1],
        "minutes": (time.perf_counter() - start) / 60,
    }


def comparisons(folder: Path, runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each method minus the linear head: AUROC meaned over seeds, paired, interval by patient.

    Of each set, the seeds for which every method is there.
    """
    from dinorad_rt.appearance import by_appearance
    from dinorad_rt.metrics.by_patient import RankingByPatient
    from dinorad_rt.metrics.comparisons import paired_bootstrap

    rows = []
    done = {(run["set"], run["method"], run["seed"]) for run in runs}
    for name in SETS:
        seeds = [s for s in SEEDS if all((name, method, s) in done for method in METHODS)]
        if not seeds:
            continue
        first = [_predictions(folder / f"{name}-linear-{seed}") for seed in seeds]
        patients, labels = first[0][0], first[0][1]
        index = by_appearance(patients).index
        count = int(index.max()) + 1

        def metric(scores: list[np.ndarray], index: Any = index, labels: Any = labels) -> Any:
            rankings = [
                RankingByPatient(labels == 1, s, index, int(index.max()) + 1) for s in scores
            ]
            return lambda counts: np.mean([ranking(counts)[:1] for ranking in rankings], axis=0)

        linear = metric([part[2] for part in first])
        for method in METHODS[1:]:
            found = [_predictions(folder / f"{name}-{method}-{seed}") for seed in seeds]
            other = metric([part[2] for part in found])
            (difference,) = paired_bootstrap(linear, other, count)
            ones = np.ones((1, count), np.int64)
            rows.append(
                {
                    "set": name,
                    "method": method,
                    "linear_auroc": float(linear(ones)[0, 0]),
                    "auroc": float(other(ones)[0, 0]),
                    "difference": difference.value,
                    "low": difference.low,
                    "high": difference.high,
                    "seeds": len(seeds),
                    "patients": count,
                }
            )
    table(rows)
    return rows


def _predictions(run: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    import pyarrow.parquet as pq

    rows = pq.read_table(run / "predictions.parquet").to_pydict()
    scores = np.asarray(rows["scores"])[:, -1]
    return np.asarray(rows["patient"]), np.asarray(rows["labels"])[:, 0], scores


def throughput(method: str, rounds: int) -> None:
    """The whole of `fit`, with its states and checkpoints, against a loop that has none.

    One thread and its processor time: other load on the machine does not count. BF16 where the
    processor has it.
    """
    import torch

    from dinorad_rt.machine import cpu_precisions
    from dinorad_rt.training.loop import fit
    from dinorad_rt.training.presets import classify_preset

    torch.set_num_threads(1)
    precision = "bf16" if "bf16" in cpu_precisions() else "fp32"
    recipe = classify_preset(method).changed(  # type: ignore[arg-type]
        epochs=1, batch_size=8, precision=precision, augmentation="none", device="cpu"
    )

    def ours() -> None:
        with tempfile.TemporaryDirectory() as folder:
            fit(_job(recipe), recipe.settings, Path(folder) / "run")

    def bare() -> None:
        _bare_loop(_job(recipe), recipe.settings.epochs, autocast=precision == "bf16")

    seconds = interleave({"fit": ours, "bare": bare}, rounds=rounds, clock=time.process_time)
    row = {
        "method": method,
        "fit_s": statistics.median(seconds["fit"]),
        "bare_s": statistics.median(seconds["bare"]),
        "throughput_fit_over_bare": median_of_ratios(seconds["bare"], seconds["fit"]),
        "rounds": rounds,
    }
    before = stored("training_throughput")
    same = before.get("precision") == precision
    rows = [r for r in before.get("rows", []) if same and r["method"] != method]
    table([*rows, row])
    facts = {"bar": 0.95, "model": MODEL, "precision": precision, "clock": "processor time"}
    save("training_throughput", facts | {"rows": [*rows, row]})


_BANKS: list[Any] = []


def _job(recipe: Any) -> Any:
    """A job on the head CT's images; they are decoded once for all rounds."""
    import torch

    from dinorad_rt.backbones.load import load_backbone
    from dinorad_rt.preprocessing.presets import preset
    from dinorad_rt.training.classifier import Classifier
    from dinorad_rt.training.classify_job import ClassifyJob
    from dinorad_rt.training.images import ImageBank
    from dinorad_rt.training.methods import apply_method

    backbone = load_backbone(MODEL, weights=WEIGHTS)
    if not _BANKS:
        data = dataset_of("ct_head_hemorrhage")
        spec = preset("dinorad", backbone.spec, 224)
        _BANKS.extend(
            (ImageBank(data.of_split("train"), spec), ImageBank(data.of_split("val"), spec))
        )
    torch.manual_seed(0)
    model = Classifier(backbone, recipe.head, 2)
    apply_method(backbone.module, "vit", recipe.method)
    return ClassifyJob(model, recipe, "binary", (_BANKS[0], _BANKS[1]), {"kind": "classifier"})


def _bare_loop(job: Any, epochs: int, *, autocast: bool) -> None:
    """What one writes by hand: batches, autocast, AdamW, a validation pass per epoch."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    from dinorad_rt.training.images import normalise

    model, spec = job.model, job.train.spec
    images = [torch.stack([bank.row(i) for i in range(len(bank))]) for bank in _BANKS]
    train = TensorDataset(images[0], job.train.labels)
    val = TensorDataset(images[1], job.val.labels)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5)
    for _ in range(epochs):
        model.train()
        for pixels, labels in DataLoader(train, batch_size=8, shuffle=True):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
                logits = model(normalise(pixels, spec))
            loss = torch.nn.functional.cross_entropy(logits.float(), labels)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        model.eval()
        right = 0
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            for pixels, labels in DataLoader(val, batch_size=64):
                right += int((model(normalise(pixels, spec)).argmax(1) == labels).sum())


def engines(folder: Path, sets: Sequence[str], limit: int) -> None:
    """Each tuned model of the first seed: PyTorch FP32 against its engine, compiled, refitted."""
    document = stored("training_engines")
    rows, compiled = document.get("rows", []), document.get("tensorrt_rtx", [])
    done = {(row["set"], row["method"]) for row in compiled}
    missing = [
        (name, method)
        for name in sets
        for method in METHODS
        if (name, method) not in done and (folder / f"{name}-{method}-0/results.json").exists()
    ]
    for name, method in missing[:limit]:
        rows += [_on_engine(folder, name, method, precision) for precision in ("fp32", "bf16")]
        compiled += _compiled(folder, name, method)
        save("training_engines", {"rows": rows, "tensorrt_rtx": compiled})
    table([{k: v for k, v in row.items() if k != "reason"} for row in rows])
    table(compiled)


def _on_engine(folder: Path, name: str, method: str, precision: str) -> dict[str, Any]:
    from dinorad_rt.training.evaluate import RunRequest, evaluate_run

    run = folder / f"{name}-{method}-0"
    request = RunRequest(run, precision=precision, backend="openvino")  # type: ignore[arg-type]
    out = folder / "engines" / f"{run.name}-{precision}"
    results, _ = evaluate_run(request, dataset_of(name), out=out, say=print)
    gate = results.provenance["task_gate"]
    keys = ("difference", "low", "high", "agreement", "images", "verdict", "reason")
    return {
        "set": name,
        "method": method,
        "precision": precision,
        "backend": results.provenance["engine"]["backend"],
        "test_auroc_engine": results.metric("auroc").value,
        **{key: gate[key] for key in keys},
    }


def refit(folder: Path, rounds: int) -> None:
    """Other weights into a cached engine against building it, in turns, each in an empty cache.

    In processor time: other load on the machine does not count.
    """
    from dinorad_rt.engines.build import get_or_build
    from dinorad_rt.engines.profile import load_profile
    from dinorad_rt.engines.refit import refit_engine
    from dinorad_rt.training.checkpoint import load_tuned
    from dinorad_rt.training.export import export_tuned

    with tempfile.TemporaryDirectory() as home:
        runs = [_tuned_run(folder, method) for method in METHODS[:2]]
        first, second = (export_tuned(load_tuned(run), out=Path(home) / run.name) for run in runs)
        profile = load_profile("default")
        count = iter(range(1000))

        def prepared(graph: Any) -> None:
            os.environ["DINORAD_RT_CACHE"] = str(Path(home) / f"cache{next(count)}")
            get_or_build(graph, backend="openvino", profile=profile)

        seconds: dict[str, list[float]] = {"build": [], "refit": []}
        for _ in range(rounds):
            start = time.process_time()
            prepared(second)
            seconds["build"].append(time.process_time() - start)
            prepared(first)
            start = time.process_time()
            refit_engine(second, backend="openvino", profile=profile)
            seconds["refit"].append(time.process_time() - start)
    row = {name: statistics.median(values) for name, values in seconds.items()}
    row["build_over_refit"] = median_of_ratios(seconds["build"], seconds["refit"])
    table([row])
    facts = {"backend": "openvino", "model": MODEL, "clock": "processor time", "rounds": rounds}
    save("training_refit", facts | row)


def _tuned_run(folder: Path, method: str) -> Path:
    """A run of `accuracy`, or else of `study`: a refit asks for an architecture, not for scores."""
    run = folder / f"{SETS[0]}-{method}-0"
    return run if run.exists() else folder / f"study-{method}"


def _compiled(folder: Path, name: str, method: str) -> list[dict[str, Any]]:
    """The FP16 graph of a run, compiled by TensorRT-RTX for GPUs that are not here."""
    from dinorad_rt.engines.profile import load_profile
    from dinorad_rt.runners.tensorrt_targets import build_for_targets
    from dinorad_rt.training.checkpoint import load_tuned
    from dinorad_rt.training.export import export_tuned

    graph = export_tuned(load_tuned(folder / f"{name}-{method}-0"), precision="fp16", say=print)
    built = build_for_targets(graph, load_profile("default"), ("sm75", "sm80", "sm89"))
    return [
        {
            "set": name,
            "method": method,
            "target": item.target,
            "seconds": item.seconds,
            "mebibytes": item.size / 2**20,
        }
        for item in built
    ]


if __name__ == "__main__":
    main()
