"""Stored values of a DICOM file: decoding, colour, palettes, and which decoder is missing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dinorad_rt.errors import (
    DinoradError,
    MissingPackageError,
    NoImageError,
    UnreadableFileError,
)
from dinorad_rt.optional import require
from dinorad_rt.studies import codestream
from dinorad_rt.studies.colour import without_colour
from dinorad_rt.studies.quiet import is_decoder_failure

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MAX_BYTES = 8 << 30
"""Largest pixel data that is decoded at once, in bytes: an attack, or a file to cut up first."""

_PHOTOMETRIC = (
    "MONOCHROME1",
    "MONOCHROME2",
    "PALETTE COLOR",
    "RGB",
    "YBR_FULL",
    "YBR_FULL_422",
    "YBR_ICT",
    "YBR_RCT",
)
"""What is turned into grey or RGB. YBR_PARTIAL, HSV and CMYK would be taken for RGB as they are."""

_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
"""Transfer syntaxes without compression, of which single frames can be read."""

_PIXEL_ATTRIBUTES = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_PACKAGES = {
    "1.2.840.10008.1.2.4.50": "pylibjpeg[libjpeg]",
    "1.2.840.10008.1.2.4.51": "pylibjpeg[libjpeg]",
    "1.2.840.10008.1.2.4.57": "pylibjpeg[libjpeg]",
    "1.2.840.10008.1.2.4.70": "pylibjpeg[libjpeg]",
    "1.2.840.10008.1.2.4.80": "pyjpegls",
    "1.2.840.10008.1.2.4.81": "pyjpegls",
    "1.2.840.10008.1.2.4.90": "pylibjpeg[openjpeg]",
    "1.2.840.10008.1.2.4.91": "pylibjpeg[openjpeg]",
    "1.2.840.10008.1.2.4.201": "pylibjpeg[openjpeg]",
    "1.2.840.10008.1.2.4.202": "pylibjpeg[openjpeg]",
    "1.2.840.10008.1.2.4.203": "pylibjpeg[openjpeg]",
    "1.2.840.10008.1.2.5": "pylibjpeg[rle]",
}
"""Transfer syntax UID → package with the decoder that pydicom uses for it."""


def check_has_pixels(dataset: Dataset, path: Path) -> None:
    """Refuse what is DICOM, but no image, and images of unknown encoding.

    Raises:
        NoImageError: it is of a kind that holds no pixels.
        UnreadableFileError: it was cut, or its encoding is not known.
    """
    if not any(name in dataset for name in _PIXEL_ATTRIBUTES):
        kind = _kind_of(dataset)
        if not kind:
            raise UnreadableFileError(
                f"{path} is no DICOM file, or its beginning is lost: no SOP class, no pixel data.",
                "Fetch the file again.",
            )
        problem = f"{path} is DICOM without pixel data: {kind}."
        if kind.endswith("Image Storage"):
            raise UnreadableFileError(problem, "The file was cut: fetch it again.")
        raise NoImageError(
            problem, "Give the image files; reports, plans and structure sets hold no pixels."
        )
    if getattr(dataset.file_meta, "TransferSyntaxUID", None) is None:
        raise UnreadableFileError(
            f"{path} is DICOM without a transfer syntax (no file meta information, PS3.10 7.1): "
            "how its pixels are encoded would be a guess.",
            "Have the file written again with a header: dcmconv (DCMTK) +te OLD NEW, or gdcmconv.",
        )
    colours = str(dataset.get("PhotometricInterpretation") or "MONOCHROME2")
    if colours not in _PHOTOMETRIC:
        raise UnreadableFileError(
            f"{path} has the photometric interpretation {colours[:20]!r}; read are "
            f"{', '.join(_PHOTOMETRIC)}.",
            "Have it converted to RGB: dcmconv (DCMTK), or the archive's export.",
        )


def decode(dataset: Dataset, path: Path, frame: int | None) -> np.ndarray:
    """Decode the stored values of all frames or one.

    Returns:
        (frames, height, width), or (frames, height, width, 3) RGB for colour. YBR is turned into
        RGB; palette indices stay indices (see `palette_to_rgb`). Native byte order.

    Raises:
        UnreadableFileError: the data are truncated or damaged.
        MissingPackageError: no decoder for the transfer syntax is installed.
    """
    pixels_module = require("pydicom.pixels", "reading DICOM")
    _check_size(dataset, path, frame)
    _check_frames(dataset, path, frame)
    shifted = _is_shifted(dataset)
    whole = dataset.get("BitsStored") == dataset.get("BitsAllocated")  # else unused bits are cut
    try:
        source = path if _can_seek(dataset, frame) else dataset
        options = {"correct_unused_bits": False} if shifted else {"view_only": whole}
        pixels = pixels_module.pixel_array(source, index=frame, **options)
    except BaseException as error:
        if not is_decoder_failure(error):
            raise
        missing = missing_decoder(dataset, path)
        if missing is not None:
            raise missing from error
        raise UnreadableFileError(
            f"Cannot decode the pixels of {path}: {_first_reason(error)}",
            "The file is damaged or cut short: fetch it again.",
        ) from error
    native: np.ndarray = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if shifted:
        native = _low_bits(native, dataset)
    plane = 3 if int(dataset.get("SamplesPerPixel", 1)) > 1 else 2
    return native if native.ndim == plane + 1 else native[None]


def colour_or_grey(dataset: Dataset, pixels: np.ndarray) -> np.ndarray:
    """Palette indices → RGB; RGB whose channels are equal → grey; the rest as it is.

    Args:
        pixels: from `decode`.

    Returns:
        (frames, height, width) or (frames, height, width, 3) with the palette's own depth.
    """
    if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
        pixels = palette_to_rgb(dataset, pixels)
    return without_colour(pixels) if pixels.ndim == 4 else pixels


def palette_to_rgb(dataset: Dataset, pixels: np.ndarray) -> np.ndarray:
    """Look palette indices up: (...) → (..., 3), uint8 or uint16 (PS3.3 C.7.6.3.1.5)."""
    apply_color_lut = require("pydicom.pixels", "reading DICOM").apply_color_lut
    if pixels.shape[0] * pixels.shape[1] == 0:
        return pixels
    colours = np.asarray(apply_color_lut(pixels, dataset))[..., :3]
    descriptor = dataset.get("RedPaletteColorLookupTableDescriptor")
    bits = int(descriptor[2]) if descriptor is not None else 8
    if bits == 8 and colours.dtype.itemsize == 2:
        return colours.astype(np.uint8)
    if colours.dtype == np.uint16 and not (colours & 0xFF).any():
        return (colours >> 8).astype(np.uint8)  # 8-bit tables are often written as 16 bit
    return colours


def missing_decoder(dataset: Dataset, path: Path) -> DinoradError | None:
    """The error to raise if nothing installed decodes the file's transfer syntax, else None."""
    syntax = dataset.file_meta.TransferSyntaxUID
    get_decoder = require("pydicom.pixels", "reading DICOM").get_decoder
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        return UnreadableFileError(
            f"{path} is compressed as {syntax.name} ({syntax}), which is not read here: video, "
            "referenced or multi-component data.",
            "Have its frames written as images: ffmpeg for video, else gdcmconv --raw OLD NEW.",
        )
    if decoder.is_available:
        return None
    package = _PACKAGES.get(str(syntax), "pylibjpeg[all]")
    return MissingPackageError(
        f"The pixels are compressed as {syntax.name} ({syntax}); no decoder for it is installed.",
        f"Install one: pip install '{package}'",
    )


def _is_shifted(dataset: Dataset) -> bool:
    """True if stored bits end above the lowest bit of their cell, as in ACR-NEMA's times."""
    allocated, stored = _number(dataset, "BitsAllocated"), _number(dataset, "BitsStored")
    if "PixelData" not in dataset or allocated not in (8, 16, 32):
        return False
    plain = str(dataset.file_meta.TransferSyntaxUID) in (*_NATIVE, "1.2.840.10008.1.2.5")
    return plain and stored <= int(dataset.get("HighBit") or 0) < allocated


def _low_bits(cells: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Values of bits that end at HighBit; as they are where a wrong HighBit says so of low ones."""
    allocated, stored = _number(dataset, "BitsAllocated"), _number(dataset, "BitsStored")
    unsigned = cells.view(f"u{cells.dtype.itemsize}")
    is_low = int(unsigned.max(initial=0)) < 1 << stored
    end = stored if is_low else _number(dataset, "HighBit") + 1
    moved: np.ndarray = (cells << (allocated - end)) >> (allocated - stored)
    return moved


def _can_seek(dataset: Dataset, frame: int | None) -> bool:
    """True if one frame of an uncompressed file can be read without the others."""
    return frame is not None and str(dataset.file_meta.TransferSyntaxUID) in _NATIVE


def _check_size(dataset: Dataset, path: Path, frame: int | None) -> None:
    size = _number(dataset, "Rows") * _number(dataset, "Columns")
    size *= _number(dataset, "SamplesPerPixel") * max(_number(dataset, "BitsAllocated") // 8, 1)
    size *= _number(dataset, "NumberOfFrames") if frame is None else 1
    if size > MAX_BYTES:
        raise UnreadableFileError(
            f"{path} declares {size / 2**30:.1f} GiB of pixels; at most {MAX_BYTES >> 30} GiB are "
            "read at once.",
            "Read single frames: read_study(path, frame=0).",
        )


def _check_frames(dataset: Dataset, path: Path, frame: int | None) -> None:
    """Compressed frames must have the size that the header says, before they are decoded."""
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    if syntax not in (*codestream.JPEG_2000, *codestream.JPEG):
        return
    encapsulated = require("pydicom.encaps", "reading DICOM")
    data, count = dataset.PixelData, _number(dataset, "NumberOfFrames")
    try:
        if frame is None:
            frames = list(encapsulated.generate_frames(data, number_of_frames=count))
        else:
            frames = [encapsulated.get_frame(data, frame, number_of_frames=count)]
    except Exception:  # the decoder meets the same damage and tells it
        return
    wanted = _number(dataset, "Rows"), _number(dataset, "Columns")
    for code in frames:
        size = codestream.declared_size(code, syntax)
        if size not in (None, wanted):
            raise UnreadableFileError(
                f"{path}: a compressed frame declares {size} rows and columns, the file {wanted}.",
                "The file is damaged: fetch it again.",
            )


def _number(dataset: Dataset, name: str) -> int:
    value: Any = dataset.get(name)
    return max(int(value), 1) if value not in (None, "") else 1


def _kind_of(dataset: Dataset) -> str:
    uid = getattr(dataset.file_meta, "MediaStorageSOPClassUID", None) or dataset.get("SOPClassUID")
    return str(getattr(uid, "name", uid)) if uid else ""


def _first_reason(error: BaseException) -> str:
    """The decoders' own words in one line, shortened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = "; ".join(lines[1:] if len(lines) > 1 else lines) or type(error).__name__
    return text if len(text) <= 400 else text[:400] + " ..."
