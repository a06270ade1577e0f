"""Fuzzing of every reader with mutated files: an image, or an error that says why; nothing else.

    python benchmarks/fuzz.py --inputs 20000 --seed 0        the run whose summary is stored
    python benchmarks/fuzz.py --show dicom:1234 --seed 0     write that input to a file, and read it

Each reader gets the same share of the inputs, made of real files where there are any (the folder
`shared` beside the checkout, or $DINORAD_RT_SHARED) and of files written here. Input number n of a
reader depends on the seed, the reader and n alone. Workers are processes of their own: one that
crashes, hangs or grows is told from one that refuses, and a new one goes on with the next input.
Bounds: 5 seconds for an input, 1 GiB of resident memory more than before the first one.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import select
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

CHECKOUT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("DINORAD_RT_SHARED", CHECKOUT.parent / "shared")) / "data"
READERS = ("dicom", "nifti", "png", "jpeg", "tiff", "raster", "numpy", "matlab")
SECONDS = 5.0
GROWTH_MB = 1024.0
ADDRESS_SPACE = 12 << 30
"""Hard limit of a worker in bytes: far above the bound, so that a breach is measured."""
LARGEST = 400_000
"""Real files up to this many bytes are mutated."""
NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
"""Values at which lengths, sizes and offsets tip over."""


# --------------------------------------------------------------------------------------- the inputs


def sources(reader: str) -> list[bytes]:
    """The files that are mutated for a reader, in an order that never changes."""
    folders = {
        "dicom": ("dicom_odd", "mr_dicom_series"),
        "nifti": ("nifti_odd", "mr_hippocampus3d/images", "ct_mr_3d_totalseg"),
        "png": ("ct_head_hemorrhage/images", "cxr_nih1000_multilabel/images"),
        "jpeg": ("mri_brain_tumor_yesno/no", "mri_brain_tumor_yesno/yes"),
    }
    magic = {"png": b"\x89PNG", "jpeg": b"\xff\xd8"}.get(reader, b"")
    found: list[bytes] = []
    for folder in folders.get(reader, ()):
        paths = sorted(path for path in (SHARED / folder).rglob("*") if path.is_file())
        small = [path.read_bytes() for path in paths if path.stat().st_size < LARGEST]
        found += [data for data in small if data.startswith(magic)][:60]
    return found + list(_written(reader))


def _written(reader: str) -> Iterator[bytes]:
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (60, 50), np.uint8)
    if reader == "dicom":
        yield from _written_dicom(grey)
    elif reader == "nifti":
        yield from _written_nifti(grey)
    elif reader == "numpy":
        for array in (grey, np.stack([grey] * 3).astype(np.int16), grey / np.float32(3)):
            for save in (np.save, _save_npz):
                file = io.BytesIO()
                save(file, array)
                yield file.getvalue()
    elif reader == "matlab":
        yield from _written_mat(grey)
    else:
        yield from _written_raster(reader, grey)


def _save_npz(file: io.BytesIO, array: np.ndarray) -> None:
    np.savez_compressed(file, image=array, label=np.arange(3))


def _written_dicom(grey: np.ndarray) -> Iterator[bytes]:
    """A plain CT slice, and the same deflated."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

    for syntax in (ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = "1.2.3"
        meta.TransferSyntaxUID = syntax
        dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, "1.2.3"
        dataset.Modality, dataset.SamplesPerPixel = "CT", 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.Rows, dataset.Columns = grey.shape
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit, dataset.PixelRepresentation = 7, 0
        dataset.RescaleSlope, dataset.RescaleIntercept = 4, -1024
        dataset.PixelData = grey.tobytes()
        file = io.BytesIO()
        dataset.save_as(file, enforce_file_format=True)
        yield file.getvalue()


def _written_nifti(grey: np.ndarray) -> Iterator[bytes]:
    import gzip

    import nibabel

    volume = np.stack([grey] * 4).astype(np.int16)
    for kind in (nibabel.Nifti1Image, nibabel.Nifti2Image):
        plain = kind(volume, np.diag([2.0, 1.0, 1.0, 1.0])).to_bytes()
        yield plain
        yield gzip.compress(plain, mtime=0)


def _written_mat(grey: np.ndarray) -> Iterator[bytes]:
    import h5py

    for compression in (None, "gzip"):
        file = io.BytesIO()
        with h5py.File(file, "w") as mat:
            mat.create_dataset("cjdata/image", data=grey.astype(np.int16), compression=compression)
            mat["cjdata/PID"] = np.array([[49], [50]], np.uint16)
            mat["cjdata/label"] = np.array([[1.0]])
        yield file.getvalue()


def _written_raster(reader: str, grey: np.ndarray) -> Iterator[bytes]:
    from PIL import Image

    colour = np.stack([grey, grey[::-1], grey[:, ::-1]], axis=-1)
    images = [Image.fromarray(grey), Image.fromarray(colour)]
    if reader in ("png", "tiff"):
        images.append(Image.fromarray(grey.astype(np.uint16) * 257))
    options: dict[str, list[tuple[str, dict[str, Any]]]] = {
        "png": [("PNG", {}), ("PNG", {"compress_level": 0})],
        "jpeg": [("JPEG", {}), ("JPEG", {"progressive": True})],
        "tiff": [("TIFF", {"compression": how}) for how in (None, "tiff_lzw", "tiff_deflate")],
        "raster": [("BMP", {}), ("GIF", {}), ("WEBP", {}), ("JPEG2000", {}), ("PPM", {})],
    }
    for kind, settings in options[reader]:
        for image in images:
            file = io.BytesIO()
            image.save(file, format=kind, **settings)
            yield file.getvalue()


def mutant(originals: list[bytes], reader: str, seed: int, number: int) -> bytes:
    """Input `number`: one of the originals with one to six changes, mostly few."""
    rng = np.random.default_rng([seed, READERS.index(reader), number])
    original = originals[number % len(originals)]
    if reader == "png" and rng.random() < 0.4:
        return _changed_within(original, originals, rng)
    data = _changed(original, originals, rng)
    return _with_checksums(data) if reader == "png" and rng.random() < 0.5 else bytes(data)


def _changed(original: bytes, originals: list[bytes], rng: np.random.Generator) -> bytearray:
    data = bytearray(original)
    for _ in range(min(int(rng.geometric(0.5)), 6)):
        if not data:
            break
        _MUTATIONS[int(rng.integers(len(_MUTATIONS)))](data, originals, rng)
    return data


def _changed_within(original: bytes, originals: list[bytes], rng: np.random.Generator) -> bytes:
    """A PNG whose filtered rows were changed and packed again: behind zlib, all is in order."""
    chunks, at = [], 8
    while at + 12 <= len(original):
        length = int.from_bytes(original[at : at + 4], "big")
        chunks.append((original[at + 4 : at + 8], original[at + 8 : at + 8 + length]))
        at += 12 + length
    rows = zlib.decompress(b"".join(body for kind, body in chunks if kind == b"IDAT"))
    changed = zlib.compress(bytes(_changed(rows, originals, rng)), 1)
    others = [chunk for chunk in chunks if chunk[0] != b"IDAT"]
    out = bytearray(original[:8])
    for kind, body in [others[0], (b"IDAT", changed), *others[1:]]:
        out += len(body).to_bytes(4, "big") + kind + body + bytes(4)
    return _with_checksums(out)


def _with_checksums(data: bytearray) -> bytes:
    """A PNG with the right checksum for each chunk, so that the decoder itself meets the damage."""
    at = 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if end + 4 > len(data):
            break
        data[end : end + 4] = zlib.crc32(data[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(data)


def suffix(data: bytes, reader: str) -> str:
    """File name suffix, where the reader or its library goes by it."""
    if reader != "nifti":
        return ".mat" if reader == "matlab" else ""
    return ".nii.gz" if data[:2] == b"\x1f\x8b" else ".nii"


def _place(data: bytearray, rng: np.random.Generator) -> int:
    """Half of the changes fall into the first 2,000 bytes: headers break more than pixels do."""
    return int(rng.integers(0, len(data) if rng.random() < 0.5 else min(len(data), 2000)))


def _flip_bits(data: bytearray, _: list[bytes], rng: np.random.Generator) -> None:
    data[_place(data, rng)] ^= 1 << int(rng.integers(8))


def _set_bytes(data: bytearray, _: list[bytes], rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(1, 8))):
        data[_place(data, rng)] = int(rng.integers(256))


def _set_number(data: bytearray, _: list[bytes], rng: np.random.Generator) -> None:
    size, at = int(rng.choice([2, 4])), _place(data, rng)
    value = NUMBERS[int(rng.integers(len(NUMBERS)))] & (256**size - 1)
    data[at : at + size] = value.to_bytes(size, "little" if rng.random() < 0.5 else "big")


def _cut_end(data: bytearray, _: list[bytes], rng: np.random.Generator) -> None:
    del data[int(rng.integers(1, len(data) + 1)) :]


def _cut_out(data: bytearray, _: list[bytes], rng: np.random.Generator) -> None:
    at = _place(data, rng)
    del data[at : at + int(rng.integers(1, 60))]


def _insert(data: bytearray, _: list[bytes], rng: np.random.Generator) -> None:
    at = _place(data, rng)
    data[at:at] = rng.bytes(int(rng.integers(1, 40)))


def _repeat(data: bytearray, _: list[bytes], rng: np.random.Generator) -> None:
    at = _place(data, rng)
    data[at:at] = data[at : at + int(rng.integers(1, 400))]


def _graft(data: bytearray, originals: list[bytes], rng: np.random.Generator) -> None:
    """A piece of another file of the same kind."""
    other = originals[int(rng.integers(len(originals)))]
    at = int(rng.integers(0, max(1, len(other) - 1)))
    piece = other[at : at + int(rng.integers(1, 300))]
    to = _place(data, rng)
    data[to : to + len(piece)] = piece


_MUTATIONS = (
    *[_flip_bits, _set_bytes, _set_number] * 3,
    *(_cut_end, _cut_out, _insert, _repeat, _graft),
)


# -------------------------------------------------------------------------------------- the workers


def work(reader: str, seed: int, first: int, last: int) -> None:
    """Read inputs [first, last); a line of JSON before and after each."""
    from dinorad_rt.errors import DinoradError
    from dinorad_rt.studies.read import read_study

    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    originals = sources(reader)
    with tempfile.TemporaryDirectory() as folder:
        for original in originals:  # imports and caches are no growth
            path = Path(folder) / f"input{suffix(original, reader)}"
            path.write_bytes(original)
            _outcome(read_study, path, DinoradError)
        before = _resident("VmRSS")
        for number in range(first, last):
            data = mutant(originals, reader, seed, number)
            path = Path(folder) / f"input{suffix(data, reader)}"
            path.write_bytes(data)
            print(json.dumps({"start": number}), flush=True)
            Path("/proc/self/clear_refs").write_text("5")  # forget the peak
            began = time.perf_counter()
            outcome, detail = _outcome(read_study, path, DinoradError)
            seconds = time.perf_counter() - began
            grown = (_resident("VmHWM") - before) / 1024
            line = {"number": number, "outcome": outcome, "detail": detail}
            print(json.dumps(line | {"seconds": seconds, "grown_mb": grown}), flush=True)


def _outcome(read_study: Any, path: Path, refusal: type[Exception]) -> tuple[str, str]:
    try:
        study = read_study(path)
    except refusal as error:
        said = bool(getattr(error, "problem", "")) and bool(getattr(error, "fix", ""))
        return ("refused" if said else "refused without a reason"), type(error).__name__
    except BaseException as error:
        return "exception", f"{type(error).__name__}: {error}"[:300]
    return ("read" if study.pixels.size else "empty"), ""


def _resident(name: str) -> int:
    """KiB of a line of /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    return 0


@dataclass
class Tally:
    """What became of a reader's inputs."""

    inputs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    most_grown_mb: float = 0.0
    breaches: list[str] = field(default_factory=list)

    def add(self, reader: str, line: dict[str, Any]) -> None:
        """Count one input that a worker finished."""
        self.inputs += 1
        self.outcomes[line["outcome"]] += 1
        self.slowest_s = max(self.slowest_s, line["seconds"])
        self.most_grown_mb = max(self.most_grown_mb, line["grown_mb"])
        name = f"{reader}:{line['number']}"
        if line["outcome"] not in ("read", "refused"):
            self.breaches.append(f"{name}: {line['outcome']} {line['detail']}")
        if line["seconds"] > SECONDS:
            self.breaches.append(f"{name}: {line['seconds']:.1f} s")
        if line["grown_mb"] > GROWTH_MB:
            self.breaches.append(f"{name}: {line['grown_mb']:.0f} MB")

    def lost(self, reader: str, number: int, how: str) -> None:
        """Count one input that took its worker along."""
        self.inputs += 1
        self.outcomes[how.split()[0]] += 1
        self.breaches.append(f"{reader}:{number}: {how}")


def fuzz(reader: str, inputs: int, seed: int) -> Tally:
    """Give a reader its inputs, with a new worker after each crash or hang."""
    tally, first = Tally(), 0
    while first < inputs:
        first = _one_worker(reader, seed, first, inputs, tally)
    return tally


def _one_worker(reader: str, seed: int, first: int, last: int, tally: Tally) -> int:
    """Run one worker until it is done or lost; the number that the next one starts with."""
    command = [sys.executable, __file__, "--worker", reader, str(seed), str(first), str(last)]
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile() as errors:
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment)
        at, busy, hung = _followed(worker, reader, first, tally)
        if hung:
            worker.kill()
        status = worker.wait()
        if not busy and status:  # the harness itself failed
            errors.seek(0)
            raise RuntimeError(errors.read().decode()[-2000:])
    if busy:
        tally.lost(reader, at, "hang" if hung else f"crash (status {status})")
        at += 1
    return at


def _followed(
    worker: subprocess.Popen[bytes], reader: str, first: int, tally: Tally
) -> tuple[int, bool, bool]:
    """Count what a worker says until it is silent: next number, at work, hanging."""
    assert worker.stdout is not None
    at, busy, buffered = first, False, b""
    handle = worker.stdout.fileno()
    while True:
        ready, _, _ = select.select([handle], [], [], 2 * SECONDS if busy else 120)
        chunk = os.read(handle, 1 << 16) if ready else b""
        if not chunk:
            worker.stdout.close()
            return at, busy, not ready
        *lines, buffered = (buffered + chunk).split(b"\n")
        for line in map(json.loads, lines):
            busy = "start" in line
            if busy:
                at = line["start"]
            else:
                tally.add(reader, line)
                at = line["number"] + 1


def run(inputs: int, seed: int) -> dict[str, Tally]:
    """All readers, the same share each (the first ones one more where it does not divide)."""
    share, rest = divmod(inputs, len(READERS))
    return {
        reader: fuzz(reader, share + (index < rest), seed) for index, reader in enumerate(READERS)
    }


def show(name: str, seed: int) -> None:
    """Write one input beside the caller, and read it without a safety net."""
    from dinorad_rt.studies.read import read_study

    reader, _, number = name.partition(":")
    data = mutant(sources(reader), reader, seed, int(number))
    path = Path(f"fuzz-{reader}-{number}{suffix(data, reader)}")
    path.write_bytes(data)
    print(f"written: {path}", flush=True)
    print(read_study(path))


def main() -> None:
    """Run, print the table, store the summary; exit 1 on any breach."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", metavar="READER:NUMBER")
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        reader, *numbers = arguments.worker
        return work(reader, *map(int, numbers))
    if arguments.show:
        return show(arguments.show, arguments.seed)
    sys.path.insert(0, str(CHECKOUT))
    from benchmarks.harness import save, table

    began = time.perf_counter()
    tallies = run(arguments.inputs, arguments.seed)
    rows = [
        {
            "reader": reader,
            "files": len(sources(reader)),
            "inputs": tally.inputs,
            "read": tally.outcomes["read"],
            "refused": tally.outcomes["refused"],
            "breaches": len(tally.breaches),
            "slowest s": tally.slowest_s,
            "most grown MB": tally.most_grown_mb,
        }
        for reader, tally in tallies.items()
    ]
    table(rows)
    breaches = [text for tally in tallies.values() for text in tally.breaches]
    print(*breaches, sep="\n")
    summary = {
        "inputs": sum(tally.inputs for tally in tallies.values()),
        "seed": arguments.seed,
        "real_files": SHARED.is_dir(),
        "bounds": {"seconds": SECONDS, "grown_mb": GROWTH_MB},
        "seconds": time.perf_counter() - began,
        "rows": rows,
        "breaches": breaches,
    }
    save("fuzz", summary)
    if breaches:
        raise SystemExit(f"{len(breaches)} breaches")


if __name__ == "__main__":
    main()
