"""Worst-image cosine and task gate for fp16, bf16 and int8: real weights on real images.

    .venv/bin/python benchmarks/task_gate.py --shared ../shared/data

Each engine is compared with FP32 PyTorch on every image of the test split: cosine of the last class
token (of the pooled embedding), the paired difference of the kNN classifier's AUROC with its 95 %
interval by patient, and the share of images that get the same class. On a processor without FP16
arithmetic the typed program is emulated: every value rounded to its type, sums in FP32, as tensor
cores do. INT8 is calibrated on the train split of each set; the column `gate` says whether its own
limits let it pass, and the task is measured all the same. Rows of earlier runs are kept, so that
models and sets can be measured one by one.
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

from benchmarks.harness import load, save, table
from dinorad_rt.engines.build import get_or_build
from dinorad_rt.engines.profile import load_profile
from dinorad_rt.engines.task_gate import TaskGate, judge_stores, judge_tables
from dinorad_rt.errors import DinoradError
from dinorad_rt.export.recipe import ParityLimits, load_recipe
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
PNEUMONIA_TRAIN = 300
ANYTHING = ParityLimits(cosine=-1.0, patch_cosine=-1.0, relative_l2=1e9, rows=1e9)


@dataclass(frozen=True)
class Case:
    """One backbone with its FP32 graph, and one dataset with the reference's store."""

    backbone: Backbone
    fp32: Graph
    dataset: Dataset
    reference: Any


def main() -> None:
    """Measure what is asked for, and store it beside what was measured before."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--precisions", default="fp16,bf16,int8")
    parser.add_argument("--sets", default=",".join((*FOLDERS, "pneumonia")))
    arguments = parser.parse_args()
    rows = {key_of(row): row for row in load("task_gate").get("rows", [])}
    with tempfile.TemporaryDirectory() as scratch:
        datasets = list(open_sets(arguments.shared, arguments.sets.split(","), Path(scratch)))
        for name in arguments.models.split(","):
            for case in cases(name, arguments.shared / "weights" / MODELS[name], datasets):
                for precision in arguments.precisions.split(","):
                    row = measure(case, precision)
                    rows[key_of(row)] = row
                    print(row, flush=True)
                    store(rows)
    shown = ("model", "set", "precision", "computed_by", "gate", "cosine_min", "difference", "low")
    more = ("high", "agreement", "patients", "verdict")
    table([{key: rows[row].get(key, "") for key in (*shown, *more)} for row in sorted(rows)])


def store(rows: dict[tuple[str, str, str], dict[str, Any]]) -> None:
    """Keep what was measured so far."""
    ordered = [rows[key] for key in sorted(rows)]
    left_out = "adrenalmnist3d: shape masks of 64 slices each, no image of a patient"
    save("task_gate", {"rows": ordered, "left_out": left_out, "reference": "fp32, pytorch"})


def key_of(row: dict[str, Any]) -> tuple[str, str, str]:
    """What a row is about."""
    return row["model"], row["set"], row["precision"]


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
        native = precision in (*cpu_precisions(), "int8")
        row |= facts | {"computed_by": "openvino" if native else "typed program, rounded"}
        if native:
            engine = get_or_build(graph, backend="openvino", profile=load_profile())
            row["products"] = engine.manifest["products"]
            gate = judge_stores(case.reference, embed(case.dataset, engine))
        else:
            gate = judge_emulated(case, graph)
        row |= gate.as_dict()
    except DinoradError as error:
        row |= {"verdict": "refused", "error": error.problem}
    row["seconds"] = round(time.perf_counter() - start, 1)
    return row


def judge_emulated(case: Case, graph: Graph) -> TaskGate:
    """The task gate of a typed program whose every value is rounded to its type."""
    from dinorad_rt.embeddings.loader import Loader
    from dinorad_rt.export.emulate import emulate
    from dinorad_rt.export.program import load_program
    from dinorad_rt.preprocessing.presets import preset
    from dinorad_rt.protocols.pooling import pool_slices

    program = load_program(graph.program_path)
    spec = preset("dinorad", case.backbone.spec, case.backbone.image_size)
    samples = {sample.sample_id: sample for sample in case.dataset.samples}
    wanted = {s: pool_slices(case.reference.load(s)) for s in ("train", "test")}
    found = {}
    with Loader(spec) as loader:
        for split, known in wanted.items():
            rows = loader.rows([samples[str(name)] for name in known.sample_ids])
            pixels = (row.pixels for row in rows if row.pixels is not None)
            cls = [emulate(program, image[None], rounding=True)[0][0] for image in pixels]
            found[split] = replace(known, cls=np.concatenate(cls))
    return judge_tables(wanted, found, classes=len(case.dataset.class_names))


def graph_of(case: Case, precision: str) -> tuple[Graph, dict[str, Any]]:
    """The graph, and what its gate says; an INT8 graph is made whatever it says."""
    from dinorad_rt.export.calibration import calibration_images
    from dinorad_rt.export.onnx_export import export_onnx
    from dinorad_rt.export.parity import output_faults
    from dinorad_rt.export.quantise import quantise_graph

    if precision != "int8":
        return export_onnx(case.backbone, precision=precision), {"gate": "passed"}  # type: ignore[arg-type]
    images = calibration_images(case.fp32, case.dataset)
    graph = quantise_graph(case.fp32, images, limits=ANYTHING)
    numbers = graph.manifest["parity"]["precision"]
    limits = load_recipe(case.backbone.spec.family).limits["int8"]
    faults = output_faults(numbers, limits, "INT8 on held-out images")
    return graph, {
        "gate": "refused" if faults else "passed",
        "reason_of_gate": "; ".join(faults),
        "held_out_cosine_min": numbers["cls"]["cosine_min"],
        "quantised": graph.manifest["lint"]["matrix_products"],
    }


if __name__ == "__main__":
    main()
