"""Masks: label maps as PNG for images, as NIfTI for volumes. The same bytes every time."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np


def write_png(path: Path, labels: np.ndarray) -> None:
    """Write (rows, columns) uint8 labels as an 8-bit grey PNG; the value is the label.

    Source: PNG specification (ISO/IEC 15948); written here because encoders differ in their bytes.
    """
    rows, columns = labels.shape
    lines = np.zeros((rows, columns + 1), np.uint8)  # a filter byte (none) before each row
    lines[:, 1:] = labels
    header = struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 6)), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def write_nifti(
    path: Path,
    labels: np.ndarray,
    spacing: tuple[float, float, float],
    origin: tuple[float, float, float],
) -> None:
    """Write (slices, rows, columns) uint8 labels of an axial volume as .nii.gz.

    Args:
        path: ends in .nii.gz.
        labels: slices from feet to head, rows to the back, columns to the left.
        spacing: (slice, row, column) mm.
        origin: LPS position of voxel (0, 0, 0), mm.
    """
    import nibabel

    affine = np.diag([-spacing[2], -spacing[1], spacing[0], 1.0])
    affine[:3, 3] = (-origin[0], -origin[1], origin[2])
    image = nibabel.Nifti1Image(np.ascontiguousarray(labels.transpose(2, 1, 0)), affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)  # gzip without a name or a date
    path.write_bytes(packer.compress(image.to_bytes()) + packer.flush())
