"""Real segmentation runs behind the engine: exported, gated, compiled, refitted; predict's files.

Called by `benchmarks.segmentation`. Every Dice is that of the validation split of real data; every
file that `predict` answers for is real, and is opened again by highdicom, SimpleITK and nibabel.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.harness import save, table

if TYPE_CHECKING:
    from dinorad_rt.datasets.dataset import Dataset
    from dinorad_rt.engines.mask_gate import SegmentationGate
    from dinorad_rt.export.manifest import Graph
    from dinorad_rt.training.checkpoint import TunedModel

TARGETS = ("sm80", "sm89")
ENGINES, PREDICT = "segmentation_engines", "segmentation_predict"
NOTE = "The last two files are no crops of a hippocampus: their masks mean nothing but geometry."
TOLERANCE = 1e-4
"""Millimetres: DICOM writes positions as decimal strings."""


def engine_rows(run: Path, name: str, dataset: Dataset, precisions: tuple[str, ...]) -> list[Any]:
    """PyTorch FP32 against each precision, on the validation volumes.

    OpenVINO computes what the processor has; the rest is the typed program with every value rounded
    to its type.
    """
    from dinorad_rt.engines.build import get_or_build
    from dinorad_rt.engines.profile import load_profile
    from dinorad_rt.errors import DinoradError
    from dinorad_rt.machine import cpu_precisions
    from dinorad_rt.training.checkpoint import load_tuned
    from dinorad_rt.training.export import export_tuned
    from dinorad_rt.training.segmentation.on_engine import gate_on_engine

    rows = []
    tuned = load_tuned(run)
    for precision in precisions:
        native = precision in cpu_precisions()
        backend = "openvino" if native else "typed program, rounded"
        row: dict[str, Any] = {"run": name, "precision": precision, "computed_by": backend}
        start = time.perf_counter()
        try:
            graph = export_tuned(tuned, precision=precision, say=print)  # type: ignore[arg-type]
            row |= {
                "input_shape": list(graph.input_shape),
                "operators": sum(graph.manifest["lint"]["operators"].values()),
                "graph_parity": graph.manifest["parity"]["graph"]["logits"]["relative_l2_max"],
            }
            if native:
                engine = get_or_build(graph, backend=backend, profile=load_profile())
                parity = engine.manifest["parity"]["outputs"]["logits"]["relative_l2_max"]
                gate = gate_on_engine(tuned, graph, dataset, backend=backend, say=print)
            else:
                parity = graph.manifest["parity"]["precision"]["logits"]["relative_l2_max"]
                gate = gate_emulated(tuned, graph, dataset)
            row |= {"engine_parity": parity, "gate": gate.as_dict()}
        except DinoradError as error:
            row["refused"] = error.problem
        rows.append(row | {"seconds": time.perf_counter() - start})
    return rows


def gate_emulated(tuned: TunedModel, graph: Graph, dataset: Dataset) -> SegmentationGate:
    """The task gate of a typed program whose every value is rounded to its type."""
    from dinorad_rt.export.emulate import emulate
    from dinorad_rt.export.program import load_program
    from dinorad_rt.training.segmentation.load import segmenter_of
    from dinorad_rt.training.segmentation.on_engine import segmenter_on
    from dinorad_rt.training.segmentation.task_gate import gate_on_validation

    program = load_program(graph.program_path)

    def infer(pixels: np.ndarray) -> dict[str, np.ndarray]:
        outputs, _ = emulate(program, pixels, rounding=True)
        return dict(zip(graph.outputs, outputs, strict=True))

    runner = SimpleNamespace(infer=infer, input_shape=graph.input_shape, batch=4)
    ours = segmenter_on(runner, tuned)  # type: ignore[arg-type]
    return gate_on_validation(ours, segmenter_of(tuned), dataset)


def compiled_rows(run: Path, name: str) -> list[Any]:
    """The FP16 graph of a run, compiled by TensorRT-RTX for GPUs that are not here."""
    from dinorad_rt.engines.profile import load_profile
    from dinorad_rt.errors import DinoradError
    from dinorad_rt.runners.tensorrt_targets import build_for_targets
    from dinorad_rt.training.checkpoint import load_tuned
    from dinorad_rt.training.export import export_tuned

    rows: list[dict[str, Any]] = []
    try:
        graph = export_tuned(load_tuned(run), precision="fp16", say=print)
        for item in build_for_targets(graph, load_profile("default"), TARGETS):
            rows.append(
                {
                    "run": name,
                    "precision": "fp16",
                    "target": item.target,
                    "seconds": item.seconds,
                    "mebibytes": item.size / 2**20,
                    "precision_gate": graph.manifest["parity"]["precision"]["logits"],
                }
            )
    except DinoradError as error:
        rows.append({"run": name, "precision": "fp16", "refused": error.problem})
    return rows


def refit_row(run: Path, name: str, rounds: int = 3) -> dict[str, Any]:
    """Another checkpoint into a cached engine against building it, in turns, in processor time.

    The other checkpoint is the run's with its weights moved by a thousandth: another hash, the same
    work.
    """
    import statistics
    from dataclasses import replace

    import torch

    from benchmarks.harness import median_of_ratios
    from dinorad_rt.engines.build import get_or_build
    from dinorad_rt.engines.profile import load_profile
    from dinorad_rt.engines.refit import refit_engine
    from dinorad_rt.training.checkpoint import load_tuned
    from dinorad_rt.training.export import export_tuned

    profile, kept = load_profile(), os.environ.get("DINORAD_RT_CACHE")
    seconds: dict[str, list[float]] = {"build": [], "refit": []}
    with tempfile.TemporaryDirectory() as home:
        first = load_tuned(run)
        second = replace(load_tuned(run), sha256="0" * 64)
        with torch.no_grad():
            for value in second.module.parameters():
                value.mul_(1.001)
        graphs = [
            export_tuned(tuned, out=Path(home) / str(index))
            for index, tuned in enumerate((first, second))
        ]
        try:
            for turn in range(rounds):
                os.environ["DINORAD_RT_CACHE"] = str(Path(home) / f"built{turn}")
                start = time.process_time()
                get_or_build(graphs[1], backend="openvino", profile=profile)
                seconds["build"].append(time.process_time() - start)
                os.environ["DINORAD_RT_CACHE"] = str(Path(home) / f"refitted{turn}")
                get_or_build(graphs[0], backend="openvino", profile=profile)
                start = time.process_time()
                refit_engine(graphs[1], backend="openvino", profile=profile)
                seconds["refit"].append(time.process_time() - start)
        finally:
            os.environ.pop("DINORAD_RT_CACHE")
            if kept is not None:
                os.environ["DINORAD_RT_CACHE"] = kept
    return {
        "run": name,
        "build_s": statistics.median(seconds["build"]),
        "refit_s": statistics.median(seconds["refit"]),
        "build_over_refit": median_of_ratios(seconds["build"], seconds["refit"]),
        "clock": "processor time",
        "rounds": rounds,
    }


def predict_files(run: Path, dicom: Path, nifti: list[Path], trained: dict[str, Any]) -> None:
    """Bundle a run, predict on DICOM series and NIfTI volumes, open what was written elsewhere."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as home:
        bundle = Path(home) / "bundle"
        _cli("bundle", run, "--out", bundle)
        for number, path in enumerate((dicom, *nifti)):
            formats = "nifti,dicom-seg" if path == dicom else "nifti"
            out = Path(home) / f"answers{number}"
            words = ["--masks", formats, "--keep-identifiers", "--backend", "openvino"]
            _cli("predict", bundle, path, "--out", out, *words)
            check = _dicom_rows if path == dicom else _nifti_rows
            rows += list(check(path, out))
    versions = {name: _version(name) for name in ("highdicom", "SimpleITK", "nibabel", "pydicom")}
    save(PREDICT, {"trained": trained, "note": NOTE, "opened_by": versions, "files": rows})
    keys = ("kind", "status", "voxels", "geometry_equal")
    table([{key: row.get(key, "") for key in keys} for row in rows])


def _dicom_rows(folder: Path, out: Path) -> Iterator[dict[str, Any]]:
    import highdicom as hd
    import nibabel
    import pydicom
    import SimpleITK

    for answer in _answers(out):
        row: dict[str, Any] = {"kind": "dicom series", "status": answer["status"]}
        row |= {k: v for k, v in answer.items() if k.startswith("volume_ml")}
        if answer["status"] != "ok":
            yield row | {"reason": answer.get("reason")}
            continue
        path = out / "masks" / f"{answer['item']}.dcm"
        seg = hd.seg.segread(path)
        files = _series(folder, seg)
        source = hd.get_volume_from_series([pydicom.dcmread(file) for file in files])
        found = seg.get_volume(combine_segments=True)
        start = np.linalg.solve(source.affine, found.affine[:, 3])[:3]
        row |= {
            "slices": len(files),
            "segments": len(seg.SegmentSequence),
            "highdicom_affine_mm": _most(found.affine[:3, :3], source.affine[:3, :3]),
            "highdicom_start_off_grid": _most(start, np.rint(start)),
        }
        mask = nibabel.load(path.with_suffix("").with_suffix(".nii.gz"))
        row["voxels"], row["voxels_equal_in_nifti"] = _same_voxels(found, mask)
        reader = SimpleITK.ImageSeriesReader()
        reader.SetFileNames([str(file) for file in files])
        image, other = reader.Execute(), SimpleITK.ReadImage(str(path))
        corner = image.TransformPhysicalPointToContinuousIndex(other.GetOrigin())
        row |= {
            "simpleitk_size": list(other.GetSize()),
            "simpleitk_in_plane": other.GetSize()[:2] == image.GetSize()[:2],
            "simpleitk_spacing_mm": _most(other.GetSpacing(), image.GetSpacing()),
            "simpleitk_direction": _most(other.GetDirection(), image.GetDirection()),
            "simpleitk_origin_off_grid": _most(corner, np.rint(corner)),
        }
        limits = ("highdicom_affine_mm", "highdicom_start_off_grid", "simpleitk_spacing_mm")
        good = all(row[key] <= TOLERANCE for key in (*limits, "simpleitk_origin_off_grid"))
        same = row["voxels"] == row["voxels_equal_in_nifti"] and row["simpleitk_in_plane"]
        yield row | {"geometry_equal": bool(good and same)}


def _nifti_rows(path: Path, out: Path) -> Iterator[dict[str, Any]]:
    import nibabel
    import SimpleITK

    for answer in _answers(out):
        row: dict[str, Any] = {"kind": "nifti", "status": answer["status"]}
        row |= {k: v for k, v in answer.items() if k.startswith("volume_ml")}
        if answer["status"] != "ok":
            yield row | {"reason": answer.get("reason")}
            continue
        written = out / "masks" / f"{answer['item']}.nii.gz"
        image, mask = nibabel.load(path), nibabel.load(written)
        first, second = (SimpleITK.ReadImage(str(file)) for file in (path, written))
        places = ("GetOrigin", "GetSpacing", "GetDirection")
        off = max(_most(getattr(first, name)(), getattr(second, name)()) for name in places)
        row |= {
            "shape": list(mask.shape),
            "affine_equal": bool(np.array_equal(image.affine, mask.affine)),
            "shape_equal": mask.shape == image.shape[:3],
            "simpleitk_geometry": off,
            "voxels": int((np.asarray(mask.dataobj) > 0).sum()),
        }
        yield row | {"geometry_equal": row["affine_equal"] and row["shape_equal"] and off == 0}


def _answers(out: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    return list(pq.read_table(out / "predictions.parquet").to_pylist())


def _series(folder: Path, seg: Any) -> list[Path]:
    """Files of the series that a segmentation refers to, in SimpleITK's order."""
    import pydicom
    import SimpleITK

    wanted = str(seg.ReferencedSeriesSequence[0].SeriesInstanceUID)
    first = next(
        path
        for path in sorted(folder.rglob("*.dcm"))
        if str(pydicom.dcmread(path, stop_before_pixels=True).SeriesInstanceUID) == wanted
    )
    names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(first.parent), wanted)
    return [Path(name) for name in names]


def _same_voxels(volume: Any, mask: Any) -> tuple[int, int]:
    """Labelled voxels of a DICOM SEG, and how many have the same label at that place in NIfTI."""
    spots = np.argwhere(volume.array > 0)
    points = volume.affine @ np.concatenate([spots.T, np.ones((1, len(spots)))])
    points[:2] *= -1  # LPS to RAS
    index = np.rint(np.linalg.solve(mask.affine, points)[:3]).astype(int)
    found = np.asarray(mask.dataobj)
    return len(spots), int((found[tuple(index)] == volume.array[tuple(spots.T)]).sum())


def _most(first: Any, second: Any) -> float:
    return float(np.abs(np.asarray(first, float) - np.asarray(second, float)).max())


def _version(name: str) -> str:
    from importlib.metadata import version

    return version(name)


def _cli(*words: Any) -> None:
    program = shutil.which("dinorad-rt", path=str(Path(sys.executable).parent))
    assert program is not None, "dinorad-rt is not installed beside this Python"
    subprocess.run([program, *map(str, words)], check=True, stdout=subprocess.DEVNULL)
