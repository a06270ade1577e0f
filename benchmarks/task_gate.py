"""Worst-image cosine and task gate for fp16, bf16 and int8: real weights on real images.

    .venv/bin/python benchmarks/task_gate.py --shared ../shared/data

Each engine is compared with FP32 PyTorch on every image of the test split: cosine of the last class
token (of the pooled embedding), the paired difference of the kNN classifier's AUROC with its 95 %
interval by patient, and the share of images that get the same class. FP16 runs where a backend has
the arithmetic; on a processor without it PyTorch computes the typed program by converting, which
gives FP16's numbers, slowly: the column `computed by` says which. INT8 is calibrated on the train
split of each set; where its gate refuses the graph, the row says so with the gate's number, and the
task is measured all the same, under limits that let everything pass.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import save, table
from dinorad_rt.engines.build import get_or_build
from dinorad_rt.engines.profile import load_profile
from dinorad_rt.engines.task_gate import TaskGate, judge_stores
from dinorad_rt.errors import DinoradError, ParityError
from dinorad_rt.export.recipe import ParityLimits
from dinorad_rt.machine import cpu_precisions
from dinorad_rt.pipeline import embed

if TYPE_CHECKING:
    from dinorad_rt.backbones.load import Backbone
    from dinorad_rt.datasets.dataset import Dataset
    from dinorad_rt.export.manifest import Graph

MODELS = {
    "deit_tiny_patch16_224": "deit_tiny_patch16_224",
    "squeezenet1_1": "squeezenet1_1",
    "mobilenet_v2": "mobilenet_v2_bnfolded_backbone",
}
FOLDERS = (
    "mri_brain_tumor_yesno",
    "ct_head_hemorrhage",
    "cxr_montgomery_tb_lung",
    "cxr_nih1000_multilabel",
)
PNEUMONIA = "pneumoniamnist_kaggle_subset_trainval.npz"
PNEUMONIA_TRAIN = 600
ANYTHING = ParityLimits(cosine=-1.0, patch_cosine=-1.0, relative_l2=1e9, rows=1e9)


@dataclass(frozen=True)
class Case:
    """One backbone with its FP32 graph, and one dataset with the reference's store."""

    backbone: Backbone
    fp32: Graph
    dataset: Dataset
    reference: Any


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--precisions", default="fp16,bf16,int8")
    parser.add_argument("--sets", default=",".join((*FOLDERS, "pneumonia")))
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        datasets = list(open_sets(arguments.shared, arguments.sets.split(","), Path(scratch)))
        for name in arguments.models.split(","):
            for case in cases(name, arguments.shared / "weights" / MODELS[name], datasets):
                for precision in arguments.precisions.split(","):
                    rows.append(measure(case, precision))
                    print(rows[-1], flush=True)
    shown = ("model", "set", "precision", "computed_by", "gate", "cosine_min", "difference", "low")
    more = ("high", "agreement", "patients", "verdict")
    table([{key: row.get(key, "") for key in (*shown, *more)} for row in rows])
    left_out = "adrenalmnist3d: shape masks of 64 slices each, no image of a patient"
    save("task_gate", {"rows": rows, "left_out": left_out, "reference": "fp32, pytorch"})


def open_sets(shared: Path, names: list[str], scratch: Path) -> Iterator[Dataset]:
    """The real classification sets; PneumoniaMNIST's val split serves as test."""
    from dinorad_rt.datasets.open import open_dataset

    for name in names:
        if name == "pneumonia":
            write_pneumonia(shared / "medmnist" / PNEUMONIA, scratch)
            yield replace(open_dataset(scratch), name="pneumoniamnist")
        else:
            yield replace(open_dataset(shared / name), name=name)


def write_pneumonia(source: Path, folder: Path) -> None:
    """Evenly chosen training images, and all of val under the name test."""
    from PIL import Image

    arrays = np.load(source, allow_pickle=False)
    chosen = np.linspace(0, len(arrays["train_images"]) - 1, PNEUMONIA_TRAIN).astype(int)
    parts = {"train": ("train", chosen), "test": ("val", np.arange(len(arrays["val_images"])))}
    with (folder / "labels.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["image", "label", "split"])
        for split, (stored, indices) in parts.items():
            for index in indices:
                name = f"{split}{index:05d}.png"
                Image.fromarray(arrays[f"{stored}_images"][index]).save(folder / name)
                label = int(arrays[f"{stored}_labels"][index, 0])
                writer.writerow([name, ("normal", "pneumonia")[label], split])


def cases(name: str, weights: Path, datasets: list[Dataset]) -> Iterator[Case]:
    """The FP32 reference of a backbone on each set."""
    from dinorad_rt.backbones.load import load_backbone
    from dinorad_rt.export.onnx_export import export_onnx

    backbone = load_backbone(name, weights=weights / "model.safetensors")
    graph = export_onnx(backbone)
    engine = get_or_build(graph, backend="pytorch", profile=load_profile())
    for dataset in datasets:
        yield Case(backbone, graph, dataset, embed(dataset, engine))


def measure(case: Case, precision: str) -> dict[str, Any]:
    """One row of the table."""
    start = time.perf_counter()
    row: dict[str, Any] = {
        "model": case.backbone.spec.name,
        "set": case.dataset.name,
        "precision": precision,
    }
    try:
        graph, facts = graph_of(case, precision)
        backend = "openvino" if precision in (*cpu_precisions(), "int8") else "pytorch"
        row |= facts | {"computed_by": computed_by(backend, precision)}
        engine = get_or_build(graph, backend=backend, profile=load_profile())
        row["products"] = engine.manifest["products"]
        gate: TaskGate = judge_stores(case.reference, embed(case.dataset, engine))
        row |= gate.as_dict()
    except DinoradError as error:
        row |= {"gate": "error", "error": error.problem}
    row["seconds"] = round(time.perf_counter() - start, 1)
    return row


def graph_of(case: Case, precision: str) -> tuple[Graph, dict[str, Any]]:
    """The graph, and what its gate said."""
    from dinorad_rt.export.calibration import calibration_images
    from dinorad_rt.export.onnx_export import export_onnx
    from dinorad_rt.export.quantise import quantise_graph

    if precision != "int8":
        return export_onnx(case.backbone, precision=precision), {"gate": "passed"}  # type: ignore[arg-type]
    images = calibration_images(case.fp32, case.dataset)
    try:
        return quantise_graph(case.fp32, images), {"gate": "passed"}
    except ParityError as error:
        graph = quantise_graph(case.fp32, images, limits=ANYTHING)
        numbers = graph.manifest["parity"]["precision"]["cls"]
        return graph, {
            "gate": "refused",
            "reason": error.problem,
            "held_out_cosine_min": numbers["cosine_min"],
        }


def computed_by(backend: str, precision: str) -> str:
    """Who computes, and whether the processor has the arithmetic."""
    if precision in (*cpu_precisions(), "int8"):
        return f"{backend}, native"
    return f"{backend}, {precision} by conversion"


if __name__ == "__main__":
    main()
