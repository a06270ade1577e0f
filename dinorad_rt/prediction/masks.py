"""Masks as files: NIfTI in the image's own grid, DICOM SEG beside its series."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dinorad_rt import __version__
from dinorad_rt.errors import DataError
from dinorad_rt.files import atomic_path
from dinorad_rt.optional import require
from dinorad_rt.prediction.inputs import Item
from dinorad_rt.reports.palette import rgb_of
from dinorad_rt.studies.nifti import open_nifti
from dinorad_rt.studies.quiet import quiet
from dinorad_rt.studies.read import file_kind
from dinorad_rt.studies.study import Study

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
_TISSUE = ("85756007", "SCT", "Tissue")
"""Category and type of each segment (SNOMED CT): a class name of the user's has no code."""
_FAMILY = ("123110", "DCM", "Artificial Intelligence")
_MAY_BE_EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate"),
    *("StudyTime", "AccessionNumber", "ReferringPhysicianName"),
)
"""Type 2 of the modules Patient and General Study."""


def write_nifti(path: Path, mask: np.ndarray, study: Study, item: Item) -> None:
    """Write a mask whose affine is the image's.

    A NIfTI image lends its mask the axes and the affine to the bit; others get theirs from the
    study's geometry, an identity in millimetres if it has none.

    Args:
        path: ending in .nii.gz.
        mask: (slices, height, width) uint8 in the study's grid.
        study: as `Item.read` gave it.
        item: what it was read from.
    """
    nibabel = require("nibabel", "writing NIfTI")
    voxels = np.ascontiguousarray(mask.transpose(2, 1, 0))
    if file_kind(item.files[0]) == "nifti" and len(item.files) == 1:
        image = _like(nibabel, voxels, open_nifti(item.files[0]))
    else:
        affine = np.eye(4)
        matrix = study.affine()
        if matrix is not None and np.isfinite(matrix).all():
            affine[:3, :3] = _LPS_TO_RAS @ matrix[:3, 2::-1]
            affine[:3, 3] = _LPS_TO_RAS @ matrix[:3, 3]
        image = nibabel.Nifti1Image(voxels, affine)
        image.header.set_xyzt_units("mm")
    with atomic_path(path) as part:
        part.write_bytes(_packed(image))


def _like(nibabel: Any, voxels: np.ndarray, original: Any) -> Any:
    """RAS voxels turned to the axes of the image that they were found on."""
    orientations = nibabel.orientations
    found = orientations.io_orientation(original.affine)
    if not np.isnan(found).any():
        back = orientations.ornt_transform(orientations.axcodes2ornt("RAS"), found)
        voxels = orientations.apply_orientation(voxels, back)
    if len(original.shape) == 2:
        voxels = voxels.reshape(voxels.shape[:2])
    if voxels.shape != original.shape[:3]:
        raise DataError(
            f"The mask has {voxels.shape} voxels, its image {original.shape}.",
            "Masks are written for one volume; split a time series first.",
        )
    kind = nibabel.Nifti2Image if isinstance(original, nibabel.Nifti2Image) else nibabel.Nifti1Image
    image = kind(voxels, original.affine)
    known = hasattr(original.header, "get_xyzt_units")
    image.header.set_xyzt_units(original.header.get_xyzt_units()[0] if known else "mm")
    return image


def _packed(image: Any) -> bytes:
    """gzip without a name or a date: the same mask gives the same bytes."""
    import zlib

    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    return bytes(packer.compress(image.to_bytes()) + packer.flush())


def write_dicom_seg(
    path: Path,
    mask: np.ndarray,
    item: Item,
    class_names: Sequence[str],
    *,
    model: str,
    version: str,
) -> None:
    """Write a DICOM Segmentation that refers to its series and carries its patient's identity.

    Its segments are the classes that were found; where none was, every class over empty frames.

    Args:
        path: ending in .dcm.
        mask: (slices, height, width) uint8 in the order of the item's files.
        item: a DICOM series, or one multi-frame file.
        class_names: background first.
        model: name of the bundle.
        version: of the bundle: its graph's SHA-256, shortened.

    Raises:
        DataError: the item is no DICOM, or its files do not match the mask.
        MissingPackageError: highdicom is not installed.
    """
    hd = require("highdicom", "writing DICOM SEG")
    pydicom = require("pydicom", "reading DICOM")
    if file_kind(item.files[0]) != "dicom":
        raise DataError(
            "A DICOM SEG refers to DICOM images; this item is none.", "Write NIfTI: --masks nifti"
        )
    sources = [_completed(pydicom.dcmread(file)) for file in item.files]
    frames = sum(int(getattr(source, "NumberOfFrames", 1)) for source in sources)
    if frames != len(mask):
        raise DataError(f"The mask has {len(mask)} slices, its DICOM files {frames} frames.")
    classes = range(1, len(class_names))
    present = [index for index in classes if (mask == index).any()] or [*classes]
    try:
        with quiet():  # highdicom's warnings repeat the patient's name
            segmentation = _segmentation(
                hd, sources, mask, present, class_names=class_names, model=model, version=version
            )
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # highdicom has no own class
        raise DataError(
            f"A DICOM SEG cannot refer to these files: {type(error).__name__}: {error}",
            "Write NIfTI: --masks nifti",
        ) from error
    with atomic_path(path) as part:
        segmentation.save_as(part)


def _completed(source: Any) -> Any:
    """With the attributes that every image has to name, if only as empty; archives drop them."""
    for keyword in _MAY_BE_EMPTY:
        if keyword not in source:
            setattr(source, keyword, None)
    return source


def _segmentation(
    hd: Any,
    sources: Sequence[Any],
    mask: np.ndarray,
    present: Sequence[int],
    *,
    class_names: Sequence[str],
    model: str,
    version: str,
) -> Any:
    segmentation = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=np.stack([mask == index for index in present], axis=-1),
        segmentation_type="BINARY",
        omit_empty_frames=bool(mask.any()),
        segment_descriptions=[
            _description(hd, (number, index), class_names[index], model, version)
            for number, index in enumerate(present, start=1)
        ],
        series_instance_uid=hd.UID(),
        series_number=900,
        series_description=_long_string(f"Segmentation by {model}"),
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="dinorad-rt",
        manufacturer_model_name=_long_string(model),
        software_versions=__version__,
        device_serial_number="none",
        content_label="DINORAD_RT",
        content_description="Not for clinical use",
    )
    if not all(text.isascii() for text in (model, *class_names)):
        segmentation.SpecificCharacterSet = "ISO_IR 192"  # that of the series may lack letters
    return segmentation


def _description(hd: Any, place: tuple[int, int], name: str, model: str, version: str) -> Any:
    """A segment; its place is its number and its class, whose colour it has.

    Viewers take the colour, and some do not open a segment without one.
    """
    number, index = place
    tissue, family = hd.sr.CodedConcept(*_TISSUE), hd.sr.CodedConcept(*_FAMILY)
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=_long_string(name),
        segmented_property_category=tissue,
        segmented_property_type=tissue,
        algorithm_type="AUTOMATIC",
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=_long_string(model), version=version[:64], family=family
        ),
        display_color=hd.color.CIELabColor.from_rgb(*rgb_of(index)),
    )


def _long_string(text: str) -> str:
    """Text as DICOM's LO holds it: 64 letters, and no backslash, which parts values."""
    return text.replace("\\", "/")[:64]
