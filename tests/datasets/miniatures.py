"""Every registered dataset in its official download layout, with a few tiny images each."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import nibabel
import numpy as np
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

SIDE = 16


def write_png(path: Path, bright: int = 0, dtype: type = np.uint8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = list(str(path).encode())
    pixels = np.random.default_rng(seed).integers(0, 120, (SIDE, SIDE)) + bright
    Image.fromarray(pixels.astype(dtype)).save(path, format="JPEG" if "jpg" in path.name else "PNG")


def write_mask(path: Path, start: int = 4, value: int = 255) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((SIDE, SIDE), np.uint8)
    pixels[4:12, start : start + 4] = value
    Image.fromarray(pixels).save(path)


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def write_nifti(image: Path, mask: Path | None, classes: int, slices: int = 3) -> None:
    random = np.random.default_rng(list(str(image).encode()))
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    for path, high, dtype in ((image, 500, np.int16), (mask, classes, np.uint8)):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            voxels = random.integers(0, high, (SIDE, SIDE, slices)).astype(dtype)
            nibabel.save(nibabel.Nifti1Image(voxels, affine), path)


def write_dicom(path: Path, patient: str, series: str, number: int, bright: int = 0) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = f"{series}.{number}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, f"{series}.{number}"
    dataset.PatientID, dataset.Modality = patient, "CT"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"{series}.0", series
    dataset.ImagePositionPatient = [0, 0, number]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing, dataset.SliceThickness = [1, 1], 1
    dataset.InstanceNumber = number
    dataset.Rows = dataset.Columns = SIDE
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    random = np.random.default_rng(list(str(path).encode()))
    pixels = random.integers(0, 800, (SIDE, SIDE)) + bright
    dataset.PixelData = pixels.astype(np.uint16).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


def nih(root: Path) -> None:
    rows, names = [], []
    for patient in range(1, 21):
        for follow in range(2):
            name = f"{patient:08d}_{follow:03d}.png"
            names.append(name)
            label = ("No Finding", "Mass", "Effusion|Mass")[patient % 3]
            rows.append([name, label, follow, patient, 50, "M", "PA", 16, 16, 0.1, 0.1, ""])
            write_png(root / f"images_{patient % 12 + 1:03d}" / "images" / name, patient % 3 * 50)
    header = (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,"
        "View Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
    ).split(",")
    write_csv(root / "Data_Entry_2017.csv", header, rows)
    (root / "train_val_list.txt").write_text("\n".join(names[:34]))
    (root / "test_list.txt").write_text("\n".join(names[34:]))


CHEXPERT_HEADER = (
    "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,"
    "Lung Opacity,Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,"
    "Pleural Effusion,Pleural Other,Fracture,Support Devices"
).split(",")


def chexpert(root: Path) -> None:
    base = root / "CheXpert-v1.0-small"
    for split, table, first, count in (
        ("train", "train.csv", 1, 12),
        ("valid", "valid.csv", 64541, 4),
        ("test", "test.csv", 64741, 4),
    ):
        rows = []
        for number in range(first, first + count):
            for view in ("view1_frontal.jpg", "view2_lateral.jpg"):
                path = f"{split}/patient{number:05d}/study1/{view}"
                write_png(base / path, number % 2 * 80)
                sick = "1.0" if number % 2 else "0.0"
                uncertain = "-1.0" if number % 3 == 0 and split == "train" else ""
                kind = "Lateral" if "lateral" in view else "Frontal"
                cells = ["Male", 60, kind, "AP", "", "", sick, "", "", sick, "0.0", "", sick]
                row = [f"CheXpert-v1.0-small/{path}", *cells, "", uncertain, "", "", "1.0"]
                rows.append(row)
        write_csv(base / table, CHEXPERT_HEADER, rows)


def sars(root: Path) -> None:
    for folder, count in (("Covid", 8), ("Healthy", 5), ("Others", 8)):
        for number in range(1, count + 1):
            for index in range(2):
                name = f"New_Data_CoV2/{folder}/Patient ({number})/{index}.png"
                write_png(root / name, 90 if folder == "Covid" else 0)


def brain_tumor(root: Path) -> None:
    for number in range(1, 41):
        path = root / f"brainTumorDataPublic_{'1-766' if number < 21 else '767-1532'}"
        path.mkdir(parents=True, exist_ok=True)
        patient = number // 2
        with h5py.File(path / f"{number}.mat", "w") as file:
            group = file.create_group("cjdata")
            random = np.random.default_rng(number)
            image = random.integers(0, 500, (SIDE, SIDE)) + 400 * (patient % 3)
            group["image"] = image.astype(np.int16)
            group["label"] = np.array([[float(patient % 3 + 1)]])
            group["PID"] = np.array([[ord(c)] for c in f"1{patient:05d}"], np.uint16)
    with h5py.File(root / "cvind.mat", "w") as file:
        file["cvind"] = np.ones((1, 40))


def montgomery(root: Path) -> None:
    base = root / "MontgomerySet"
    for number in range(1, 13):
        name = f"MCUCXR_{number:04d}_{number % 2}.png"
        write_png(base / "CXR_png" / name)
        write_mask(base / "ManualMask" / "leftMask" / name, 1)
        write_mask(base / "ManualMask" / "rightMask" / name, 10)
        (base / "ClinicalReadings").mkdir(exist_ok=True)
        (base / "ClinicalReadings" / name.replace("png", "txt")).write_text("normal")


def shenzhen(root: Path) -> None:
    for number in range(1, 26):
        name = f"CHNCXR_{number:04d}_{number % 2}"
        write_png(root / "ChinaSet_AllFiles" / "CXR_png" / f"{name}.png")
        if number != 7:
            write_mask(root / "mask" / f"{name}_mask.png")


def amos(root: Path) -> None:
    base = root / "amos22"
    for number in (1, 4, 5, 6, 7, 9, 10, 11, 13, 14, 507, 508):
        part = "Va" if number in (13, 14, 508) else "Tr"
        name = f"amos_{number:04d}.nii.gz"
        write_nifti(base / f"images{part}" / name, base / f"labels{part}" / name, 16)
    write_nifti(base / "imagesTs" / "amos_0002.nii.gz", None, 16)
    (base / "dataset.json").write_text(json.dumps({"labels": {"0": "background"}}))


def _decathlon(root: Path, task: str, stem: str, labels: list[str]) -> None:
    base = root / task
    for number in (2, 3, 6, 8, 9, 10, 12, 13, 14, 16, 17, 18):
        name = f"{stem}_{number}.nii.gz"
        write_nifti(base / "imagesTr" / name, base / "labelsTr" / name, len(labels))
        (base / "imagesTr" / f"._{name}").write_bytes(b"resource fork of the official archive")
    write_nifti(base / "imagesTs" / f"{stem}_1.nii.gz", None, 2)
    document = {"labels": {str(i): name for i, name in enumerate(labels)}}
    (base / "dataset.json").write_text(json.dumps(document))


def msd_heart(root: Path) -> None:
    _decathlon(root, "Task02_Heart", "la", ["background", "left atrium"])


def msd_hippocampus(root: Path) -> None:
    _decathlon(root, "Task04_Hippocampus", "hippocampus", ["background", "Anterior", "Posterior"])


def msd_spleen(root: Path) -> None:
    _decathlon(root, "Task09_Spleen", "spleen", ["background", "spleen"])


def btcv(root: Path) -> None:
    base = root / "RawData"
    for number in range(1, 7):
        write_nifti(
            base / "Training" / "img" / f"img{number:04d}.nii.gz",
            base / "Training" / "label" / f"label{number:04d}.nii.gz",
            14,
        )
    write_nifti(base / "Testing" / "img" / "img0061.nii.gz", None, 14)


def rsna(root: Path) -> None:
    rows = []
    for number in range(16):
        image = f"{number:08x}-aaaa-bbbb"
        box = [10, 10, 5, 5] if number % 2 else ["", "", "", ""]
        rows += [[image, *box, number % 2]] * (2 if number % 2 else 1)
        path = root / "stage_2_train_images" / f"{image}.dcm"
        write_dicom(path, image, f"1.2.{number + 1}", 1, number % 2 * 900)
    header = ["patientId", "x", "y", "width", "height", "Target"]
    write_csv(root / "stage_2_train_labels.csv", header, rows)
    mapping = [
        {"subset_img_id": f"{n:08x}-aaaa-bbbb", "img_id": f"{n // 2:08d}_000.png"}
        for n in range(16)
    ]
    (root / "pneumonia-challenge-dataset-mappings_2018.json").write_text(json.dumps(mapping))


def vindr(root: Path) -> None:
    findings = ["Aortic enlargement", "Nodule/Mass", "No finding"]
    for split, count, readers in (("train", 10, 3), ("test", 4, 1)):
        rows = []
        for number in range(count):
            image = f"{split}{number:04d}"
            for reader in range(readers):
                sick = int(number % 2 and reader < 2)
                cells = [sick, 0, 1 - sick]
                rows.append([image, *([f"R{reader}"] if readers > 1 else []), *cells])
            path = root / split / f"{image}.dicom"
            write_dicom(path, "", f"1.3.{len(split)}.{number + 1}", 1, number % 2 * 900)
        header = ["image_id", *(["rad_id"] if readers > 1 else []), *findings]
        write_csv(root / "annotations" / f"image_labels_{split}.csv", header, rows)


def lidc(root: Path) -> None:
    series = []
    for number in range(1, 11):
        uid = f"1.3.6.1.4.1.14519.{number}"
        series.append(uid)
        folder = root / "LIDC-IDRI" / f"LIDC-IDRI-{number:04d}" / f"study{number}" / uid
        for index in range(3):
            path = folder / f"{index:06d}.dcm"
            write_dicom(path, f"LIDC-IDRI-{number:04d}", uid, index, number % 2 * 900)
    header = ["seriesuid", "coordX", "coordY", "coordZ", "diameter_mm"]
    write_csv(root / "annotations.csv", header, [[uid, 1, 2, 3, 5.5] for uid in series[::2]])
    header = ["seriesuid", "coordX", "coordY", "coordZ", "class"]
    write_csv(root / "candidates_V2.csv", header, [[uid, 1, 2, 3, 0] for uid in series])


def medmnist(
    root: Path, name: str, shape: tuple[int, ...], classes: int, *, columns: int = 1
) -> None:
    random = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 12), ("val", 4), ("test", 6)):
        labels = (np.arange(count)[:, None] + np.arange(columns) ** 2 + 1) % (classes + 1) % classes
        images = random.integers(0, 60, (count, *shape)) + 40 * labels[:, :1].reshape(
            count, *[1] * len(shape)
        )
        arrays[f"{split}_images"] = images.clip(0, 255).astype(np.uint8)
        arrays[f"{split}_labels"] = labels.astype(np.uint8)
    root.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(root / f"{name}.npz", **arrays)


WRITERS: dict[str, Callable[[Path], None]] = {
    "nih-chestxray14": nih,
    "chexpert": chexpert,
    "chexpert-u-zeros": chexpert,
    "chexpert-u-ones": chexpert,
    "sars-cov-2-ct": sars,
    "brain-tumor": brain_tumor,
    "montgomery": montgomery,
    "shenzhen": shenzhen,
    "amos22": amos,
    "msd-heart": msd_heart,
    "msd-hippocampus": msd_hippocampus,
    "msd-spleen": msd_spleen,
    "btcv": btcv,
    "btcv-slices": btcv,
    "rsna-pneumonia": rsna,
    "vindr-cxr": vindr,
    "lidc-luna": lidc,
    "pneumoniamnist": lambda root: medmnist(root, "pneumoniamnist", (28, 28), 2),
    "pathmnist_64": lambda root: medmnist(root, "pathmnist_64", (64, 64, 3), 9),
    "chestmnist": lambda root: medmnist(root, "chestmnist", (28, 28), 2, columns=14),
    "retinamnist": lambda root: medmnist(root, "retinamnist", (28, 28, 3), 5),
    "nodulemnist3d": lambda root: medmnist(root, "nodulemnist3d", (28, 28, 28), 2),
    "adrenalmnist3d_64": lambda root: medmnist(root, "adrenalmnist3d_64", (64, 64, 64), 2),
}
"""Name → writer of a miniature below an empty folder."""
