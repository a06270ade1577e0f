"""A training step of ViT-L on a GPU: our loop against one written by hand with timm and peft.

    python -m benchmarks.training_gpu [--model vitl14] [--batch 32] [--steps 40]

Full fine-tuning and LoRA (rank 48 on qkv, fc1 and fc2, the study's) in BF16, 224 px, weights and
images random and already on the GPU, so that only the loop is compared. By hand: the timm model
with its own head, peft's LoRA, autocast, AdamW as it comes, the gradient clipped. Each runs in a
process of its own, so that the peak memory is its own; the first steps are not counted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.harness import last_words, run_python, save, table

NAME = "training_gpu"
METHODS = ("finetune", "lora")
WARM_UP = 10
RANK, ALPHA, DROPOUT = 48, 16, 0.1
BAR = 0.95


def main() -> None:
    """Run both loops for both methods, in turns, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="vitl14")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--device", default="cuda")
    arguments = parser.parse_args()
    rows = []
    for method in METHODS:
        found: dict[str, list[dict[str, Any]]] = {"ours": [], "by_hand": []}
        for _ in range(arguments.rounds):
            for loop, results in found.items():
                job = {**vars(arguments), "loop": loop, "method": method}
                code = f"from benchmarks.training_gpu import worker; worker({json.dumps(job)!r})"
                try:
                    results.append(run_python(code))
                except RuntimeError as error:
                    raise SystemExit(f"{loop} {method}: {last_words(error)}") from error
        rows.append(_row(method, found))
    table(rows)
    facts = {
        "weights": "random",
        "model": arguments.model,
        "batch": arguments.batch,
        "precision": "bf16",
        "bar": BAR,
        "gpu": _gpu(),
    }
    save(NAME, facts | {"rows": rows})


def _row(method: str, found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    seconds = {loop: statistics.median(r["step_s"] for r in runs) for loop, runs in found.items()}
    memory = {loop: max(r["peak_gb"] for r in runs) for loop, runs in found.items()}
    return {
        "method": method,
        "ours_ms": 1e3 * seconds["ours"],
        "by_hand_ms": 1e3 * seconds["by_hand"],
        "throughput_ours_over_by_hand": seconds["by_hand"] / seconds["ours"],
        "ours_peak_gb": memory["ours"],
        "by_hand_peak_gb": memory["by_hand"],
        "trained_million": [found[loop][0]["trained"] / 1e6 for loop in found],
    }


def worker(text: str) -> None:
    """One loop of one method; prints JSON."""
    import torch

    job = json.loads(text)
    loop = _ours if job["loop"] == "ours" else _by_hand
    torch.manual_seed(0)
    step_s, trained = loop(job)
    peak = torch.cuda.max_memory_allocated() / 1e9 if job["device"] == "cuda" else 0.0
    print(json.dumps({"step_s": step_s, "peak_gb": peak, "trained": trained}))


def _clock(device: str) -> Callable[[], float]:
    import torch

    def now() -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    return now


def _batches(job: dict[str, Any]) -> list[tuple[Any, Any]]:
    import torch

    shape = (job["batch"], 3, 224, 224)
    pixels = [torch.randn(shape, device=job["device"]) for _ in range(4)]
    labels = torch.randint(2, (job["batch"],), device=job["device"])
    return [(each, labels) for each in pixels]


def _ours(job: dict[str, Any]) -> tuple[float, int]:
    import torch

    from dinorad_rt.backbones.load import load_backbone
    from dinorad_rt.training.classifier import Classifier, HeadSpec
    from dinorad_rt.training.job import AbstractJob, Selection
    from dinorad_rt.training.loop import fit
    from dinorad_rt.training.methods import Method, apply_method
    from dinorad_rt.training.settings import TrainSettings

    backbone = load_backbone(job["model"], weights="random", image_size=224)
    model = Classifier(backbone, HeadSpec(blocks=1, patch_mean=True), 2)
    method = Method(protocol=job["method"], rank=RANK, alpha=ALPHA, dropout=DROPOUT)
    apply_method(backbone.module, "vit", method)
    batches, now = _batches(job), _clock(job["device"])

    class Synthetic(AbstractJob):
        module = model
        selection = Selection("loss", "min")

        def facts(self) -> dict[str, Any]:
            return {"kind": "classifier"}

        def num_batches(self) -> int:
            return int(job["steps"])

        def train_batches(
            self, epoch: int, seed: int, start: int = 0, step: int = 1
        ) -> Iterator[Any]:
            for number in range(start, job["steps"], step):
                yield batches[number % len(batches)]

        def loss(self, batch: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            pixels, labels = batch
            return torch.nn.functional.cross_entropy(model(pixels).float(), labels), {}

        def validate(self) -> dict[str, float]:
            return {"loss": 0.0}

    times: dict[int, float] = {}

    def progress(done: int, _: int) -> None:
        if done in (WARM_UP, job["steps"]):
            times[done] = now()

    settings = TrainSettings(
        epochs=1, batch_size=job["batch"], lr=1e-5, precision="bf16", device=job["device"]
    )
    with tempfile.TemporaryDirectory() as folder:
        fit(Synthetic(), settings, Path(folder) / "run", progress=progress)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return (times[job["steps"]] - times[WARM_UP]) / (job["steps"] - WARM_UP), trained


def _by_hand(job: dict[str, Any]) -> tuple[float, int]:
    import timm
    import torch

    from dinorad_rt.backbones.registry import get_spec

    name = get_spec(job["model"]).architecture
    model: Any = timm.create_model(name, pretrained=False, img_size=224, num_classes=2)
    if job["method"] == "lora":
        import peft

        model = peft.get_peft_model(
            model,
            peft.LoraConfig(
                r=RANK,
                lora_alpha=ALPHA,
                lora_dropout=DROPOUT,
                target_modules=["qkv", "fc1", "fc2"],
                modules_to_save=["head"],
            ),
        )
    model = model.to(job["device"]).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, weight_decay=0.05)
    batches, now = _batches(job), _clock(job["device"])
    start = 0.0
    for number in range(job["steps"]):
        if number == WARM_UP:
            start = now()
        pixels, labels = batches[number % len(batches)]
        with torch.autocast(job["device"], dtype=torch.bfloat16):
            logits = model(pixels)
        loss = torch.nn.functional.cross_entropy(logits.float(), labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    seconds = (now() - start) / (job["steps"] - WARM_UP)
    return seconds, sum(p.numel() for p in trained)


def _gpu() -> dict[str, str]:
    from dinorad_rt.machine import gpu_facts

    return gpu_facts()


if __name__ == "__main__":
    main()
