"""What the readers make of real odd files, beside SimpleITK; loader scaling; memory.

    python -m benchmarks.readers table [--shared DIR]     every odd file, and every real volume
    python -m benchmarks.readers loader                   images/s over workers, threads, processes
    python -m benchmarks.readers memory [--images 20000]  resident memory from 1,000 images on

`table` compares stored values with the checksums of the manifest (made by pydicom alone), and
values after the rescale, spacing, orientation and position with SimpleITK (ITK and GDCM), which
shares no code with the readers. Bars: every file equal or refused with a reason; differences at
most 1e-4; resident memory grows by at most 5 % from 1,000 to 20,000 images.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import interleave, save, table
from dinorad_rt.errors import DinoradError
from dinorad_rt.studies.read import read_study
from dinorad_rt.studies.study import Study

SAME = 1e-4
FLAT = 1.05
SHARED = Path(__file__).resolve().parents[2] / "shared"
IMAGE_MODALITIES = ("CT", "MR", "CR", "NM")
"""Those whose geometry GDCM and the standard mean alike."""


# ------------------------------------------------------------------------------------------- table


def odd_files(data: Path) -> list[dict[str, Any]]:
    """One row per file of `dicom_odd` and `nifti_odd`: read as the manifest says, or why not."""
    rows = []
    for folder in ("dicom_odd", "nifti_odd"):
        with (data / folder / "manifest.csv").open(encoding="utf-8") as file:
            for known in csv.DictReader(file):
                rows.append(_odd_file(data / folder / known["file"], known))
    return rows


def _odd_file(path: Path, known: dict[str, str]) -> dict[str, Any]:
    row: dict[str, Any] = {"file": path.name}
    try:
        study = read_study(path)
    except DinoradError as error:
        reason = error.problem.replace(str(path), "(file)")
        expected = known.get("decoded") == "0" or bool(known.get("error"))
        expected |= "Cifti" in known.get("nibabel_class", "")
        return row | {"outcome": "refused", "as expected": expected, "said": reason[:160]}
    stored = _checksum_of(path, study) == known["pixel_sha256"] if "pixel_sha256" in known else None
    if stored is None:
        stored = _same_as_nibabel(path, study)
    shape = " × ".join(map(str, study.pixels.shape))
    facts = f"{shape} {study.pixels.dtype.name} {study.units}"
    row |= {"outcome": "read", "as expected": stored, "said": facts}
    return row | against_simpleitk(path, study)


def _checksum_of(path: Path, study: Study) -> str:
    """SHA-256 of the stored values, little-endian: before a palette or a rescale is applied."""
    from dinorad_rt.studies.dicom import read_stored

    stored = read_stored(path)
    little = stored.astype(stored.dtype.newbyteorder("<"))
    return hashlib.sha256(little.tobytes()).hexdigest()


def _same_as_nibabel(path: Path, study: Study) -> bool:
    """Values equal to nibabel's, volume by volume in RAS."""
    import nibabel

    image = nibabel.as_closest_canonical(nibabel.load(path))
    values = np.asarray(image.get_fdata()).reshape(*image.shape[:3], -1)
    values = np.moveaxis(values, (3, 2, 1, 0), (0, 1, 2, 3)).reshape(study.pixels.shape)
    return bool(np.allclose(study.values(), values, rtol=1e-6, atol=SAME, equal_nan=True))


def against_simpleitk(path: Path, study: Study) -> dict[str, Any]:
    """Largest differences of values (after the rescale) and of geometry to SimpleITK; or why none.

    Values of lossy files are compared to 1, as two decoders round apart.
    """
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        image = _with_simpleitk(sitk, path)
    except RuntimeError:
        return {"SimpleITK": "cannot read it"}
    values = np.concatenate([sitk.GetArrayFromImage(one) for one in image])
    if study.is_colour or values.size != study.pixels.size:
        return {"SimpleITK": "colour" if study.is_colour else "another shape"}
    if study.inverted:  # SimpleITK inverts MONOCHROME1 itself
        values = 2.0 ** study.facts["bits_stored"] - 1 - values
    ours = study.values()
    if study.facts.get("bits_stored") == 1:
        ours *= 255  # GDCM shows single bits as 0 and 255
    both = np.isfinite(ours) & np.isfinite(values.reshape(ours.shape))
    apart = np.abs(ours - values.reshape(ours.shape))[both]
    tolerance = (
        1.0 if study.facts.get("lossy") else SAME * max(1.0, float(np.abs(ours[both]).max()) * 1e-3)
    )
    off = _geometry_apart(study, image[0], path)
    row = {"values apart": float(apart.max(initial=0.0)), "geometry apart": off}
    good = row["values apart"] <= tolerance and (off is None or off <= SAME)
    return {"SimpleITK": "same" if good else "DIFFERS", **row}


def _with_simpleitk(sitk: Any, path: Path) -> list[Any]:
    """One image per time point, axes as in `Study`: NIfTI turned to RAS."""
    if path.is_dir():
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(path)))
        return [reader.Execute()]
    image = sitk.ReadImage(str(path))
    if path.suffix == ".dcm":
        return [image]
    times = image.GetSize()[3] if image.GetDimension() == 4 else 1
    volumes = [image] if times == 1 and image.GetDimension() == 3 else [
        image[:, :, :, time] for time in range(times)
    ]  # fmt: skip
    return [sitk.DICOMOrient(volume, "RAS") for volume in volumes]


def _geometry_apart(study: Study, image: Any, path: Path) -> float | None:
    """Largest difference of spacing (mm), direction cosines and origin (mm)."""
    if study.orientation is None or study.spacing is None or image.GetDimension() != 3:
        return None
    if path.suffix == ".dcm" and (study.num_slices > 1 or study.modality not in IMAGE_MODALITIES):
        return None  # GDCM and the functional groups do not mean the same
    spacing = np.asarray(study.spacing)[::-1] - image.GetSpacing()
    if study.num_slices == 1:
        spacing = spacing[:2]  # thickness in the file, 1 in ITK
    directions = study.orientation[:, ::-1] - np.asarray(image.GetDirection()).reshape(3, 3)
    origin = np.asarray(study.origin) - image.GetOrigin()
    return float(max(np.abs(part).max() for part in (spacing, directions, origin)))


def real_volumes(data: Path) -> list[dict[str, Any]]:
    """One row per real series and volume beside the odd files."""
    rows = []
    for path in _volumes(data):
        row = {"volume": f"{path.relative_to(data).parts[0]} {path.name}"}
        study = read_study(path)
        rows.append(row | {"slices": study.num_slices, "units": study.units}
                    | against_simpleitk(path, study))  # fmt: skip
    return rows


def _volumes(data: Path) -> Iterator[Path]:
    slices = sorted((data / "mr_dicom_series").rglob("*.dcm"))
    yield from sorted({path.parent for path in slices})
    yield from sorted((data / "ct_mr_3d_totalseg").glob("*.nii.gz"))
    for folder in ("images", "labels"):
        yield from sorted((data / "mr_hippocampus3d" / folder).glob("*.nii*"))


def run_table(arguments: argparse.Namespace) -> None:
    """Print and store both tables; exit 1 if a bar is missed."""
    data = arguments.shared / "data"
    odd, volumes = odd_files(data), real_volumes(data)
    columns = ("file", "outcome", "as expected", "SimpleITK", "said")
    table([{name: row.get(name, "") for name in columns} for row in odd])
    print()
    table(volumes)
    counts = {
        "odd files": len(odd),
        "read": sum(row["outcome"] == "read" for row in odd),
        "compared with SimpleITK": sum(row.get("SimpleITK") == "same" for row in odd),
        "real volumes": len(volumes),
        "real volumes equal": sum(row["SimpleITK"] == "same" for row in volumes),
    }
    missed = [row["file"] for row in odd if not row["as expected"]]
    missed += [row["file"] for row in odd if row.get("SimpleITK") == "DIFFERS"]
    missed += [row["volume"] for row in volumes if row["SimpleITK"] != "same"]
    save(
        "readers", {"bar": SAME, "counts": counts, "missed": missed, "odd": odd, "volumes": volumes}
    )
    print(counts)
    if missed:
        raise SystemExit(f"bar missed: {missed}")


# ---------------------------------------------------------------------------------- loader, memory


def _spec() -> Any:
    from dinorad_rt.preprocessing.presets import IMAGENET_MEAN, IMAGENET_STD
    from dinorad_rt.preprocessing.spec import PreprocessSpec

    return PreprocessSpec(224, IMAGENET_MEAN, IMAGENET_STD)


def _samples(paths: list[Path]) -> list[Any]:
    from dinorad_rt.datasets.dataset import Sample

    return [Sample(str(n), path, str(n), "test", (0,)) for n, path in enumerate(paths)]


def _write_images(folder: Path, kind: str, count: int, side: int) -> list[Path]:
    """Images with the smoothness of radiographs, so that they compress as such."""
    from PIL import Image

    rng = np.random.default_rng(0)
    y, x = np.ogrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    paths = []
    for number in range(count):
        wave = 2000 + 1500 * np.cos(3 * y + number) * np.cos(2 * x)
        image = np.clip(wave + rng.normal(0, 40, (side, side)), 0, 4095).astype(np.uint16)
        path = folder / f"{number}.{kind}"
        if kind == "png":
            Image.fromarray((image >> 4).astype(np.uint8)).save(path)
        else:
            write_dicom(path, image)
        paths.append(path)
    return paths


def write_dicom(path: Path, image: np.ndarray) -> None:
    """A 12-bit radiograph, uncompressed."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = f"1.2.{path.stem}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.Modality, dataset.SamplesPerPixel = "DX", 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = image.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.WindowCenter, dataset.WindowWidth = 2048, 4096
    dataset.PixelData = image.tobytes()
    dataset.save_as(path, enforce_file_format=True)


def run_loader(arguments: argparse.Namespace) -> None:
    """Images per second and processor time per image over workers, both modes, side by side.

    Workers are started before. Where processor time per image does not rise with workers, they do
    not wait for each other, and the rate grows with the cores that are free: `load` says how busy
    the machine was otherwise.
    """
    from dinorad_rt.machine import usable_cores

    workers = [count for count in (1, 2, 4, 8, 16, 32) if count <= max(2, usable_cores())]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind, side in (("png", 512), ("dcm", 1024)):
            samples = _samples(_write_images(Path(folder), kind, arguments.images, side))
            rows += _scaling(f"{kind} {side} × {side}", samples, workers, arguments.rounds)
    packing = {"images": "copying ready rows", "mode": "-", "workers": 1}
    rows.append(packing | {"images/s": _packing_rate(), "over one": 1.0, "CPU ms/image": ""})
    table(rows)
    load = os.getloadavg()[0]
    document = {"images": arguments.images, "cores": usable_cores(), "load": load, "rows": rows}
    save("loader", document)


def _scaling(
    name: str, samples: list[Any], workers: list[int], rounds: int
) -> list[dict[str, Any]]:
    from dinorad_rt.embeddings.loader import Loader, pack

    spent: dict[tuple[str, int], list[float]] = {}
    with contextlib.ExitStack() as stack:
        runs = {}
        for mode in ("threads", "processes"):
            for count in workers:
                loader = Loader(_spec(), workers=count, mode=mode, ahead=64)  # type: ignore[arg-type]
                stack.enter_context(loader)

                def run(loader: Any = loader, key: tuple[str, int] = (mode, count)) -> None:
                    before = _processor_seconds()
                    for _ in pack(loader.rows(samples), 32, 224):
                        pass
                    spent.setdefault(key, []).append(_processor_seconds() - before)

                runs[mode, count] = run
        seconds = interleave(runs, rounds)  # type: ignore[type-var]
    return [
        {
            "images": name,
            "mode": mode,
            "workers": count,
            "images/s": len(samples) / float(np.median(taken)),
            "over one": float(np.median(seconds[mode, 1]) / np.median(taken)),
            "CPU ms/image": 1e3 * float(np.median(spent[mode, count][1:])) / len(samples),
        }
        for (mode, count), taken in seconds.items()
    ]


def _processor_seconds() -> float:
    """Of this process and its children so far."""
    import psutil

    me = psutil.Process()
    times = [one.cpu_times() for one in (me, *me.children())]
    return float(sum(one.user + one.system for one in times))


def _packing_rate() -> float:
    """Rows per second that one thread copies into batches: the loader's own limit."""
    from dinorad_rt.embeddings.loader import Row, pack

    pixels, count = np.ones((3, 224, 224), np.float32), 2000
    began = time.perf_counter()
    for _ in pack((Row(n, pixels) for n in range(count)), 32, 224):
        pass
    return count / (time.perf_counter() - began)


def run_memory(arguments: argparse.Namespace) -> None:
    """Resident memory of this process and its workers while it loads many small images.

    The most of the last 1,000 images, as it swings with the number of images that wait: up to 8
    here (twice the batch), 5 MB in all.
    """
    from dinorad_rt.embeddings.loader import load_batches

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        samples = _samples(_write_images(Path(folder), "png", arguments.images, 64))
        for mode in ("threads", "processes"):
            seen, recent = 0, []
            for batch in load_batches(samples, _spec(), batch=4, workers=2, mode=mode):
                seen += len(batch.rows)
                recent = [*recent, _resident_mb()][-250:]
                if seen in (1000, 2000, 5000, 10_000, 20_000):
                    rows.append({"mode": mode, "images": seen, "resident MB": max(recent)})
    table(rows)
    growth = {}
    for mode in ("threads", "processes"):
        mine = [row["resident MB"] for row in rows if row["mode"] == mode]
        growth[mode] = mine[-1] / mine[0]
    print({mode: f"{ratio:.3f} times" for mode, ratio in growth.items()})
    save("loader_memory", {"bar": FLAT, "growth": growth, "rows": rows})
    if max(growth.values()) > FLAT:
        raise SystemExit("bar missed: memory grows with the number of images")


def _resident_mb() -> float:
    """This process and all its children."""
    import psutil

    me = psutil.Process(os.getpid())
    return sum(one.memory_info().rss for one in (me, *me.children(recursive=True))) / 1e6


def main() -> None:
    """Run one of the three."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["table", "loader", "memory"])
    parser.add_argument("--shared", type=Path, default=SHARED)
    parser.add_argument("--images", type=int, help="default: 200 for loader, 20,000 for memory")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.images is None:
        arguments.images = 200 if arguments.what == "loader" else 20_000
    {"table": run_table, "loader": run_loader, "memory": run_memory}[arguments.what](arguments)


if __name__ == "__main__":
    main()
