"""DICOM files made by hand, and images in files of every kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

WriteDicom = Callable[..., Path]


@pytest.fixture
def write_dicom(tmp_path: Path, cache: Path) -> WriteDicom:
    """Write a DICOM file of the given pixels; further attributes by keyword."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    def write(name: str, pixels: np.ndarray, **attributes: Any) -> Path:
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[name])
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        dataset = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
        dataset.SOPClassUID = CTImageStorage
        dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
        dataset.PatientID, dataset.PatientName = "MRN-4711", "Doe^Jane"
        dataset.Modality = "CT"
        dataset.SamplesPerPixel = 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.Rows, dataset.Columns = pixels.shape[-2:]
        dataset.BitsAllocated = dataset.BitsStored = pixels.dtype.itemsize * 8
        dataset.HighBit = dataset.BitsStored - 1
        dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
        dataset.PixelData = pixels.tobytes()
        if pixels.ndim == 3:
            dataset.NumberOfFrames = len(pixels)
        for key, value in attributes.items():
            setattr(dataset, key, value)
        dataset.save_as(path, enforce_file_format=True)
        return path

    return write


@pytest.fixture
def write_stack(write_dicom: WriteDicom) -> Callable[..., Path]:
    """Write CT slices of one series at the given heights (mm), in shuffled file order."""

    def write(folder: str, heights: list[float], **attributes: Any) -> Path:
        shift = attributes.pop("shift", 0.0)
        path = Path()
        for number, height in enumerate(heights):
            pixels = np.full((4, 6), int(height), np.int16)
            path = write_dicom(
                f"{folder}/{(number * 7) % 31:02d}.dcm",
                pixels,
                **{
                    "SeriesInstanceUID": "1.2.3.4",
                    "StudyInstanceUID": "1.2.3",
                    "ImagePositionPatient": [0.0, shift * height, height],
                    "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
                    "PixelSpacing": [0.5, 0.75],
                    "SliceThickness": 5,
                    "InstanceNumber": number,
                    "RescaleSlope": 1,
                    "RescaleIntercept": -1024,
                    **attributes,
                },
            )
        return path.parent

    return write
