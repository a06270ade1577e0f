"""One frame of a DICOM data set: its attributes, wherever the file keeps them.

Enhanced multi-frame objects keep them in functional groups, per frame or shared; classic ones at
the top. What cannot be parsed counts as absent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from dinorad_rt.studies.study import Window

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Table = tuple[int, np.ndarray]
"""First mapped value, and the table's entries (uint16)."""


def numbers(dataset: Dataset, name: str) -> tuple[float, ...] | None:
    """Values of a numeric attribute; None if it is absent, empty or no number."""
    try:
        value: Any = dataset.get(name)
        if value is None or value == "":
            return None
        items = value if hasattr(value, "__iter__") and not isinstance(value, str) else [value]
        result = tuple(float(item) for item in items)
    except (ValueError, TypeError, ArithmeticError, NotImplementedError):
        return None
    return result if result and np.isfinite(result).all() else None


@dataclass(frozen=True)
class FrameView:
    """Attributes of frame `index` of `dataset`."""

    dataset: Dataset
    index: int
    holders: tuple[Dataset, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Find the functional groups once: classic files, which have none, are read often."""
        found = []
        for holder, at in (
            ("PerFrameFunctionalGroupsSequence", self.index),
            ("SharedFunctionalGroupsSequence", 0),
        ):
            items = self.dataset.get(holder)
            if items is not None and at < len(items):
                found.append(items[at])
        object.__setattr__(self, "holders", tuple(found))

    def _sources(self, group: str) -> Iterator[Dataset]:
        """Data sets to look into, most specific first."""
        for holder in self.holders:
            inner = holder.get(group)
            if inner:
                yield inner[0]
        yield self.dataset

    def _numbers(self, group: str, *names: str) -> tuple[float, ...] | None:
        for source in self._sources(group):
            for name in names:
                found = numbers(source, name)
                if found is not None:
                    return found
        return None

    def rescale(self) -> tuple[float, float]:
        """(slope, intercept) of the linear modality LUT; (1, 0) where there is none."""
        slope = self._numbers("PixelValueTransformationSequence", "RescaleSlope")
        intercept = self._numbers("PixelValueTransformationSequence", "RescaleIntercept")
        return (slope or (1.0,))[0], (intercept or (0.0,))[0]

    def has_rescale(self) -> bool:
        """True if the file names a slope."""
        return self._numbers("PixelValueTransformationSequence", "RescaleSlope") is not None

    def rescale_type(self) -> str:
        """What rescaled values are, such as HU; empty if not said."""
        for source in self._sources("PixelValueTransformationSequence"):
            if source.get("RescaleType"):
                return str(source.get("RescaleType"))
        return ""

    def windows(self) -> tuple[Window, ...]:
        """Usable display windows in the file's order (PS3.3 C.11.2.1.2)."""
        for source in self._sources("FrameVOILUTSequence"):
            centres, widths = numbers(source, "WindowCenter"), numbers(source, "WindowWidth")
            if centres is None or widths is None:
                continue
            function = str(source.get("VOILUTFunction") or "LINEAR").upper()
            least = 1.0 if function == "LINEAR" else 0.0
            pairs = dict.fromkeys(zip(centres, widths, strict=False))
            return tuple(
                Window(centre, width, function)
                for centre, width in pairs
                if width >= least and width > 0
            )
        return ()

    def voi_lut(self) -> Table | None:
        """The first VOI LUT table (PS3.3 C.11.2.1.1)."""
        for source in self._sources("FrameVOILUTSequence"):
            items = source.get("VOILUTSequence")
            if items:
                return _table(items[0], signed=self._is_signed_after_modality())
        return None

    def modality_lut(self) -> Table | None:
        """The modality LUT table, where the file has one instead of slope and intercept."""
        items = self.dataset.get("ModalityLUTSequence")
        return _table(items[0], signed=self._is_signed()) if items else None

    def pixel_spacing(self) -> tuple[float, float] | None:
        """(row, column) spacing in mm; at the detector where that is all the file knows."""
        found = self._numbers(
            "PixelMeasuresSequence",
            "PixelSpacing",
            "ImagerPixelSpacing",
            "NominalScannedPixelSpacing",
        )
        if found is None or len(found) != 2 or min(found) <= 0:
            return None
        return found[0], found[1]

    def thickness(self) -> float:
        """Slice thickness in mm; NaN where the file does not say."""
        found = self._numbers("PixelMeasuresSequence", "SliceThickness")
        return found[0] if found and found[0] > 0 else float("nan")

    def frame_distance(self) -> float:
        """Distance of the frames of a classic multi-frame object in mm; NaN if not said."""
        offsets = numbers(self.dataset, "GridFrameOffsetVector")
        if offsets is not None and len(offsets) > 1:
            return float(np.median(np.diff(offsets)))
        distance = numbers(self.dataset, "SpacingBetweenSlices")
        return distance[0] if distance is not None and distance[0] > 0 else float("nan")

    def orientation(self) -> tuple[float, ...] | None:
        """ImageOrientationPatient: six direction cosines."""
        return self._numbers("PlaneOrientationSequence", "ImageOrientationPatient")

    def position(self) -> tuple[float, ...] | None:
        """ImagePositionPatient in LPS mm."""
        found = self._numbers("PlanePositionSequence", "ImagePositionPatient")
        return found if found is not None and len(found) == 3 else None

    def dimension_index(self) -> tuple[int, ...]:
        """DimensionIndexValues of the frame; empty where the file has none."""
        for source in self._sources("FrameContentSequence"):
            found = numbers(source, "DimensionIndexValues")
            if found is not None:
                return tuple(int(value) for value in found)
        return ()

    def _is_signed(self) -> bool:
        return bool(self.dataset.get("PixelRepresentation") == 1)

    def _is_signed_after_modality(self) -> bool:
        return self._is_signed() or self.rescale()[1] < 0


def _table(item: Dataset, *, signed: bool) -> Table | None:
    """Parse LUTDescriptor and LUTData, which come as numbers or bytes, 8 or 16 bit."""
    descriptor = numbers(item, "LUTDescriptor")
    data: Any = item.get("LUTData")
    if descriptor is None or len(descriptor) != 3 or data is None:
        return None
    entries = int(descriptor[0]) or 65536
    first = int(descriptor[1])
    if signed and first >= 32768:
        first -= 65536
    if isinstance(data, bytes):
        dtype = np.dtype(np.uint8) if len(data) < 2 * entries else np.dtype("<u2")
        table = np.frombuffer(data, dtype, count=min(entries, len(data) // dtype.itemsize))
    else:
        table = np.asarray(data, np.int64) & 0xFFFF
    table = table[:entries].astype(np.uint16)
    return (first, table) if len(table) else None
