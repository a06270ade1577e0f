"""CT and MR stacks as one file per slice."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dinorad_rt.phantoms.ct import CTVolume
from dinorad_rt.phantoms.mr import TIMES, MRVolume
from dinorad_rt.phantoms.part10 import Header, encoded, write_part10
from dinorad_rt.phantoms.plan import Region
from dinorad_rt.phantoms.tags import StudyFacts, common, decimal, decimals, instance, stored_bits

CT_INTERCEPT = -1024
CT_PADDING = -2000
"""Stored value outside the circle that was reconstructed, as some scanners write it."""


def slice_name(number: int) -> str:
    """File name of a slice by its instance number."""
    return f"im{number:03d}.dcm"


def write_ct(folder: Path, volume: CTVolume, region: Region, facts: StudyFacts) -> list[str]:
    """Write a CT series.

    Every other patient's scanner stores signed values with padding and counts its slices from
    head to feet; the other stores unsigned values, fills the corners with air, and counts up.

    Returns:
        Names of the files, from feet to head.
    """
    signed = facts.patient.number % 2 == 0
    stored = _stored_ct(volume.hu, signed)
    header = common(facts, "CT", 2) | _ct_series(volume, region, facts)
    header |= stored_bits(16 if signed else 12)
    if signed:
        header["PixelPaddingValue"] = CT_PADDING
    elements = encoded(header, signed=signed)
    names = []
    for index, pixels in enumerate(stored):
        number = len(stored) - index if signed else index + 1
        position = (*volume.origin[:2], volume.origin[2] + index * volume.spacing[0])
        own = instance(facts, "CT", number) | {"ImagePositionPatient": decimals(*position)}
        names.append(slice_name(number))
        write_part10(folder / names[-1], elements, own, pixels)
    return names


def _ct_series(volume: CTVolume, region: Region, facts: StudyFacts) -> Header:
    header: Header = {
        "FrameOfReferenceUID": facts.uid("frame", facts.number, "CT"),
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "BodyPartExamined": region.upper(),
        "SeriesDescription": f"{region.upper()} AXIAL",
        "PatientPosition": "HFS",
        "KVP": "120",
        "ConvolutionKernel": "STANDARD",
        "RescaleIntercept": str(CT_INTERCEPT),
        "RescaleSlope": "1",
        "RescaleType": "HU",
        "WindowCenter": decimals(*(centre for centre, _ in volume.windows)),
        "WindowWidth": decimals(*(width for _, width in volume.windows)),
        **_plane(volume.spacing, np.eye(3)),
    }
    if volume.contrast:
        header["ContrastBolusAgent"] = "PHANTOM CONTRAST"
    return header


def _stored_ct(hu: np.ndarray, signed: bool) -> np.ndarray:
    inside = np.isfinite(hu)
    values = np.rint(np.where(inside, hu, float(CT_INTERCEPT)) - CT_INTERCEPT)
    if signed:
        stored: np.ndarray = np.where(inside, values, CT_PADDING).astype(np.int16)
    else:
        stored = np.clip(values, 0, 4095).astype(np.uint16)
    return stored


def write_mr(folder: Path, volume: MRVolume, facts: StudyFacts) -> list[str]:
    """Write an MR series: no rescale, no padding; most name a window.

    Returns:
        Names of the files, in the order of the slices.
    """
    header = common(facts, "MR", 3) | stored_bits(16) | _mr_series(volume, facts)
    if facts.patient.number % 3:
        high = max(round(float(np.percentile(volume.stored, 99.0))), 2)
        header["WindowCenter"], header["WindowWidth"] = decimals(high / 2, high)
    elements = encoded(header)
    names = []
    for index, pixels in enumerate(volume.stored):
        position = np.asarray(volume.origin) + volume.axes[2] * volume.spacing[0] * index
        own = instance(facts, "MR", index + 1)
        own |= {"ImagePositionPatient": decimals(*position)}
        names.append(slice_name(index + 1))
        write_part10(folder / names[-1], elements, own, pixels)
    return names


def _mr_series(volume: MRVolume, facts: StudyFacts) -> Header:
    repetition, echo, inversion = TIMES[volume.weighting]
    header: Header = {
        "FrameOfReferenceUID": facts.uid("frame", facts.number, "MR"),
        "ImageType": ["ORIGINAL", "PRIMARY", "OTHER"],
        "BodyPartExamined": "HEAD",
        "SeriesDescription": f"AX {volume.weighting}",
        "PatientPosition": "HFS",
        "ScanningSequence": ["SE", "IR"] if inversion else "SE",
        "SequenceVariant": "SK",
        "ScanOptions": "",
        "MRAcquisitionType": "2D",
        "EchoTrainLength": "1",
        "RepetitionTime": decimal(repetition),
        "EchoTime": decimal(echo),
        "MagneticFieldStrength": "1.5",
        **_plane(volume.spacing, volume.axes),
    }
    if inversion:
        header["InversionTime"] = decimal(inversion)
    return header


def _plane(spacing: tuple[float, float, float], axes: np.ndarray) -> Header:
    """Image plane module (PS3.3 C.7.6.2); `axes` rows: along columns, along rows, along slices."""
    return {
        "ImageOrientationPatient": decimals(*axes[0], *axes[1]),
        "PixelSpacing": decimals(spacing[1], spacing[2]),
        "SliceThickness": decimal(spacing[0]),
        "SpacingBetweenSlices": decimal(spacing[0]),
        "PositionReferenceIndicator": "",
    }
