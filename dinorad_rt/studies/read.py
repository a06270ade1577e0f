"""`read_study`: open any file that holds images; its content decides, its suffix comes second."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from dinorad_rt.errors import DinoradError, UnreadableFileError
from dinorad_rt.studies.quiet import is_decoder_failure
from dinorad_rt.studies.study import Study

HEAD_BYTES = 1024
_RASTER_MAGIC = (
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
    b"II*\x00",
    b"MM\x00*",
    b"II+\x00",
    b"MM\x00+",
    b"BM",
    b"GIF8",
    b"\x00\x00\x00\x0cjP  ",
    b"\xff\x4f\xff\x51",
)
_NIFTI_MAGIC = ((344, (b"n+1\0", b"ni1\0")), (4, (b"n+2\0", b"ni2\0")))
_METAIMAGE = re.compile(rb"(ObjectType|ObjectSubType|Comment|NDims)[ \t]*=")
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
ITK_SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr")
_SUFFIXES = {
    ".dcm": "dicom",
    ".dicom": "dicom",
    ".ima": "dicom",
    ".nii": "nifti",
    ".hdr": "nifti",
    ".img": "nifti",
    ".mgh": "nifti",
    ".mgz": "nifti",
    **dict.fromkeys(ITK_SUFFIXES, "nifti"),
    ".mat": "mat",
}


def read_study(path: str | Path, *, frame: int | None = None) -> Study:
    """Read one file, or a folder (or DICOMDIR) that holds one series.

    Args:
        path: DICOM, NIfTI, MGH, MetaImage, NRRD, PNG, JPEG, TIFF, BMP, GIF, WebP, JPEG 2000, NumPy,
            MATLAB 7.3.
        frame: only this frame or slice, counted from 0; None for all.

    Returns:
        The stored values with all that is needed to show them right; one slice for `frame`.

    Raises:
        UnreadableFileError: the file is missing, empty, damaged or no image; the reason is told.
        MissingPackageError: an optional package or decoder is not installed.
    """
    path = Path(path)
    kind, head = ("series", b"") if path.is_dir() else _sniffed(path)
    if kind in ("series", "dicomdir"):
        from dinorad_rt.studies.series import read_series

        study = read_series(path)
        return study if frame is None else _frame_of(study, frame, path)
    if kind is None:
        raise UnreadableFileError(
            f"Cannot read {path}: its content is no image format that is known here "
            f"(it begins with {_shown(head)}).",
            "Known: DICOM, NIfTI, MGH, MetaImage, NRRD, PNG, JPEG, TIFF, BMP, GIF, WebP, "
            "JPEG 2000, .npy, .npz, .mat 7.3",
        )
    return _guarded(_reader(kind), path, frame)


def sniff(head: bytes, path: Path) -> str | None:
    """Name the format of a file: dicom, dicomdir, nifti, raster, npy, npz, mat; None if unknown.

    All volumes with an affine go by the name of nifti: MGH, MetaImage and NRRD, too.

    Args:
        head: the file's first kilobyte.
        path: consulted for formats that have no reliable magic number, and for gzip.
    """
    if head[128:132] == b"DICM" or _is_bare_dicom(head):
        return "dicomdir" if _is_dicomdir(head) else "dicom"
    if head.startswith(_RASTER_MAGIC) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return "raster"
    if head[:2] in (b"P2", b"P5", b"P6") and head[2:3].isspace():
        return "raster"
    if head.startswith(b"\x93NUMPY"):
        return "npy"
    if head.startswith(b"PK\x03\x04"):
        return "npz"
    if any(head[at : at + 4] in magic for at, magic in _NIFTI_MAGIC):
        return "nifti"
    if is_itk(head):
        return "nifti"
    if head.startswith((_HDF5_MAGIC, b"MATLAB 7.3")) or head[512:520] == _HDF5_MAGIC:
        return "mat"
    if head.startswith(b"\x1f\x8b"):  # the voxels of .nhdr beside it, or a packed volume
        return None if path.name.lower().endswith(".raw.gz") else "nifti"
    return _SUFFIXES.get(path.suffix.lower())


def is_itk(head: bytes) -> bool:
    """True for MetaImage and NRRD."""
    return head.startswith(b"NRRD000") or bool(_METAIMAGE.match(head) and b"NDims" in head)


def file_kind(path: Path) -> str | None:
    """`sniff` of a file; None as well where it cannot be opened or is empty."""
    try:
        return sniff(head_of(path), path)
    except UnreadableFileError:
        return None


def is_image_file(path: Path) -> bool:
    """True if the content or the suffix says that the file holds an image: no index is one."""
    try:
        return sniff(head_of(path), path) not in (None, "dicomdir")
    except UnreadableFileError:
        return path.suffix.lower() in _SUFFIXES


def _is_bare_dicom(head: bytes) -> bool:
    """DICOM without preamble: a first element of group 0002 or 0008 with a sane element number."""
    if len(head) < 8 or head[:2] not in (b"\x02\x00", b"\x08\x00"):
        return False
    element = int.from_bytes(head[2:4], "little")
    explicit = head[4:6] in (b"UL", b"UI", b"CS", b"DA", b"SH", b"OB")
    length = int.from_bytes(head[4:8], "little")
    return element in (0x00, 0x01, 0x02, 0x05, 0x08, 0x10, 0x12, 0x16) and (
        explicit or length <= 128
    )


def _is_dicomdir(head: bytes) -> bool:
    """Media Storage Directory Storage as the SOP class in the file meta information."""
    at = head.find(b"1.2.840.10008.1.3.10", 132)
    return at > 0 and head[at - 8 : at - 4] == b"\x02\x00\x02\x00"


def _sniffed(path: Path) -> tuple[str | None, bytes]:
    head = head_of(path)
    return sniff(head, path), head


def head_of(path: Path) -> bytes:
    """The file's first kilobyte.

    Raises:
        UnreadableFileError: missing, empty, or not to be opened.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except FileNotFoundError:
        raise UnreadableFileError(
            f"{path} does not exist.", "Check the spelling, or the folder that the table means."
        ) from None
    except OSError as error:
        raise UnreadableFileError(
            f"Cannot open {path}: {error.strerror}.", "Check that you may read it."
        ) from error
    if not head:
        raise UnreadableFileError(f"{path} is empty (0 bytes).", "Fetch the file again.")
    return head


def _reader(kind: str) -> Callable[[Path, int | None], Study]:
    if kind == "raster":
        from dinorad_rt.studies.raster import read_raster

        return read_raster
    if kind == "dicom":
        from dinorad_rt.studies.dicom import read_dicom

        return read_dicom
    if kind == "nifti":
        from dinorad_rt.studies.nifti import read_nifti

        return read_nifti
    from dinorad_rt.studies.arrays import read_mat, read_npy, read_npz

    return {"npy": read_npy, "npz": read_npz, "mat": read_mat}[kind]


def _guarded(reader: Callable[[Path, int | None], Study], path: Path, frame: int | None) -> Study:
    """Decoders of damaged files raise anything; for the caller it is one kind of error."""
    try:
        study = reader(path, frame)
    except DinoradError:
        raise
    except BaseException as error:
        if not is_decoder_failure(error):
            raise
        text = " ".join(str(error).split())[:300] or type(error).__name__
        raise UnreadableFileError(
            f"Cannot read {path}: {type(error).__name__}: {text}",
            "The file is damaged, or of a kind that is not supported.",
        ) from error
    if 0 in study.pixels.shape:
        raise UnreadableFileError(
            f"{path} holds no pixels: its shape is {study.pixels.shape}.", "Fetch the file again."
        )
    return study


def _frame_of(study: Study, frame: int, path: Path) -> Study:
    check_frame(frame, study.num_slices, path)
    return study.slice(frame)


def check_frame(frame: int, count: int, path: Path) -> None:
    """Raise UnreadableFileError if a file of `count` frames has no frame of that number."""
    if not 0 <= frame < count:
        raise UnreadableFileError(
            f"{path} has {count} frame{'s' * (count != 1)}; frame {frame} was asked for.",
            f"Frames are counted from 0 to {count - 1}.",
        )


def _shown(head: bytes) -> str:
    return repr(head[:8])[1:]
