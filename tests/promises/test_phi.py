"""Nothing that identifies a patient leaves the readers, whatever the verb.

A DICOM study is written whose every text attribute holds a word that stands nowhere else, in
folders and files that are called by other such words. Every verb that takes images runs on it,
and everything that it prints or writes is searched for them: Parquet values as they are decoded,
JSON, HTML, text in PNG files.
"""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pydicom
import pytest
from pydicom.datadict import DicomDictionary, keyword_for_tag
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

WORD = "QXPLANTED"
"""Every planted text holds it; what is not text is in DATES and UIDS."""
BIRTH, STUDIED, UID_ROOT = "19370419", "20110923", "1.2.826.0.1.777888999"
PATIENTS, SIZE = 8, 24
FORBIDDEN = re.compile(
    rf"{WORD}|{BIRTH}|1937-04-19|{STUDIED}|2011-09-23|{re.escape(UID_ROOT)}", re.IGNORECASE
)
_TEXT = {"LO": 64, "SH": 16, "PN": 64, "LT": 1000, "ST": 1000, "UT": 1000, "UC": 1000, "AE": 16}
_NEEDED = {
    "PhotometricInterpretation", "Modality", "SpecificCharacterSet", "BurnedInAnnotation",
    "VOILUTFunction", "ImageType", "PresentationLUTShape", "PixelIntensityRelationship",
    "LossyImageCompression", "SOPClassUID", "PatientOrientation", "QueryRetrieveLevel",
}  # fmt: skip
_NO_DATASET = (0x0000, 0x0002, 0x0004, 0x7FE0)
"""Groups that belong to the network, the file, directories, or pixels."""


def plant_every_text(dataset: Dataset, number: int) -> int:
    """Fill in every text, code, date and UID attribute of the dictionary; how many there are."""
    planted = 0
    for tag, (vr, multiplicity, _, retired, keyword) in DicomDictionary.items():
        group = tag >> 16
        if (
            keyword in _NEEDED
            or not keyword
            or group in (0x0000, 0x0002, 0x0004, 0x7FE0)
            or retired
        ):
            continue
        if not multiplicity.startswith("1") or keyword_for_tag(tag) != keyword:
            continue
        if vr in _TEXT:
            value = f"{WORD}^{keyword}"[: _TEXT[vr]]
        elif vr == "CS":
            value = WORD
        elif vr == "DA":
            value = BIRTH if "Birth" in keyword else STUDIED
        elif vr == "DT":
            value = f"{STUDIED}101112"
        elif vr == "UI":
            value = f"{UID_ROOT}.{number}.{tag % 9973}"
        else:
            continue
        setattr(dataset, keyword, value)
        planted += 1
    return planted


def write_planted(path: Path, number: int) -> int:
    """One small radiograph with planted attributes; returns how many."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = f"{UID_ROOT}.9.{number}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.SourceApplicationEntityTitle = WORD
    meta.ImplementationVersionName = WORD
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=WORD.encode().ljust(128, b"\0"))
    planted = plant_every_text(dataset, number)
    patient = number // 2
    dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = f"{UID_ROOT}.9.{number}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = (
        f"{UID_ROOT}.1.{patient}",
        f"{UID_ROOT}.2.{number}",
    )
    dataset.PatientID = f"{WORD}-MRN-{patient}"
    dataset.PatientName = f"{WORD}^Jane^{patient}"
    dataset.Modality, dataset.BurnedInAnnotation = "DX", "YES"
    dataset.Rows = dataset.Columns = SIZE
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.WindowCenter, dataset.WindowWidth = 1000, 2000
    dataset.WindowCenterWidthExplanation = f"{WORD} window"
    item = Dataset()
    item.CodeMeaning, item.CodeValue = f"{WORD} meaning", WORD
    dataset.ProcedureCodeSequence = Sequence([item])
    block = dataset.private_block(0x0011, f"{WORD} CREATOR", create=True)
    block.add_new(0x01, "LO", f"{WORD} private")
    pixels = np.random.default_rng(number).integers(0, 900, (SIZE, SIZE)) + 1000 * (patient % 2)
    dataset.PixelData = pixels.astype(np.uint16).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return planted


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight patients with two images each, one file cut short, and a table that names patients."""
    root = tmp_path_factory.mktemp("phi") / f"{WORD} Hospital" / f"{WORD}^COHORT"
    files = []
    for number in range(2 * PATIENTS):
        path = root / f"{WORD}^JANE_{number // 2}" / STUDIED / f"{WORD}-{number}.dcm"
        planted = write_planted(path, number)
        assert planted > 1500  # the dictionary has some 1,900 such attributes
        files.append(path)
    damaged = files[5]
    damaged.write_bytes(damaged.read_bytes()[:-600])
    header = "PatientID,label\n"
    rows = "".join(f"{WORD}-MRN-{n},{'sick' if n % 2 else 'well'}\n" for n in range(PATIENTS))
    (root / "labels.csv").write_text(header + rows)
    with (root / f"{WORD}.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [["file", "who", "finding"]]
            + [[path.relative_to(root), f"{WORD} {n}", n % 2] for n, path in enumerate(files)]
        )
    return root


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """The program in a working folder and with a cache of its own."""
    yield Program(tmp_path_factory.mktemp("work"))


class Program:
    """Runs verbs and keeps all that they said and wrote."""

    def __init__(self, folder: Path) -> None:
        """Take the working folder."""
        self.folder = folder
        self.cache = folder / "cache"
        self.said: list[tuple[str, str]] = []

    def __call__(self, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {
            "DINORAD_RT_CACHE": str(self.cache),
            "HF_HUB_OFFLINE": "1",
            "COLUMNS": "200",
        }
        done = subprocess.run(
            [sys.executable, "-m", "dinorad_rt", *words],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=environment,
        )
        assert done.returncode == status, done.stderr
        self.said += [(f"{words[0]} stdout", done.stdout), (f"{words[0]} stderr", done.stderr)]
        return done

    def leaks(self) -> list[str]:
        """Where a planted word stands in what was said or written since the beginning."""
        found = [
            f"{where}: ...{match.group()}... in {line[:200]}"
            for where, text in self.said
            for line in text.splitlines()
            if (match := FORBIDDEN.search(line))
        ]
        for path in sorted(self.folder.rglob("*")):
            if FORBIDDEN.search(path.name):
                found.append(f"a file is called {path.name}")
            if path.is_file():
                found += [f"{path.name}: {one}" for one in leaks_of_file(path)]
        return found


def leaks_of_file(path: Path) -> list[str]:
    """Planted words in a file, after decoding what is compressed in it."""
    content = path.read_bytes()
    texts = [content.decode("latin-1")]
    if path.suffix == ".parquet":
        texts += [repr(pq.read_table(path).to_pydict()), str(pq.read_metadata(path).metadata)]
    if content.startswith(b"\x89PNG"):
        texts += [zlib_text(content)]
    if path.suffix in (".html", ".svg"):
        texts += list(embedded(content.decode("utf-8", "replace")))
    return [match.group() for text in texts if (match := FORBIDDEN.search(text))]


def zlib_text(content: bytes) -> str:
    """Compressed text chunks of a PNG file."""
    texts = []
    for kind in (b"zTXt", b"iTXt"):
        start = content.find(kind)
        if start >= 0:
            chunk = content[start + 4 :]
            data = zlib.decompressobj().decompress(chunk[chunk.index(b"\0") + 2 :])
            texts.append(data.decode("latin-1"))
    return " ".join(texts)


def embedded(page: str) -> Iterator[str]:
    """Base64 images and data of a page, decoded."""
    import base64

    for block in re.findall(r"base64,([A-Za-z0-9+/=]{40,})", page):
        yield base64.b64decode(block).decode("latin-1")


ENGINE = ("--model", "deit_tiny_patch16_224", "--weights", "random", "--image-size", "32")
BACKEND = ("--backend", "pytorch", "--precision", "fp32")


def test_the_search_finds_what_is_planted(study: Path, tmp_path: Path) -> None:
    """The detector itself: it must see words in headers, Parquet, JSON and PNG."""
    import pyarrow as pa
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    first = next(study.rglob("*.dcm"))
    header = pydicom.dcmread(first, stop_before_pixels=True)
    assert FORBIDDEN.search(str(header)) and leaks_of_file(first)
    pq.write_table(pa.table({"a": [f"x{WORD}"] * 500}), tmp_path / "a.parquet", compression="zstd")
    assert leaks_of_file(tmp_path / "a.parquet")
    info = PngInfo()
    info.add_text("Comment", f"{WORD} " * 50, zip=True)
    Image.new("L", (4, 4)).save(tmp_path / "a.png", pnginfo=info)
    assert leaks_of_file(tmp_path / "a.png")


def test_looking_leaks_nothing(study: Path, program: Program) -> None:
    program("inspect", str(study), "--sheet", "sheet.png")
    program("inspect", str(study), "--json")
    one = next(study.rglob("*.dcm"))
    program("inspect", str(one))
    assert "burned" in program("prepare", "--data", str(study)).stderr
    prepared = json.loads(program("prepare", "--data", str(study), "--json", "--out", "p").stdout)
    assert prepared["patients"] == PATIENTS and prepared["burned_in_annotation"] == 2 * PATIENTS
    assert not program.leaks()


def test_errors_leak_nothing(study: Path, program: Program) -> None:
    table = study / f"{WORD}.csv"
    for words in (
        ("prepare", "--data", str(study / "gone" / f"{WORD}.csv")),
        ("prepare", "--data", str(table), "--label-column", "who"),
        ("prepare", "--data", str(table), "--label-column", "nothing"),
        ("prepare", "--data", str(table), "--split-column", "who"),
        ("prepare", "--data", str(next(study.rglob("*.dcm")).parent)),
        ("inspect", str(study / f"{WORD} nowhere")),
        ("inspect", str(table)),
        ("inspect", str(sorted(study.rglob("*-5.dcm"))[0])),
    ):
        program(*words, status=2)
    leaking = study.parent / f"{WORD}-leak.csv"
    rows = [
        f"{path},{n % 2},{WORD}-{n // 2},{'train' if n % 3 else 'test'}"
        for n, path in enumerate(sorted(study.rglob("*.dcm")))
    ]
    leaking.write_text("\n".join(["image,label,patient,split", *rows]))
    refused = program("prepare", "--data", str(leaking), status=2)
    assert "stand in more than one split" in refused.stderr
    leaking.write_text("\n".join(["image,label", *(f"{WORD}{n}.dcm,{n % 2}" for n in range(9))]))
    refused = program("prepare", "--data", str(leaking), status=2)
    assert "9 of 9 listed files do not exist" in refused.stderr
    assert not program.leaks()


def test_patients_as_class_folders_are_refused(study: Path, program: Program) -> None:
    folders = study.parent / "as folders"
    for number in range(8):
        write_planted(folders / f"{WORD} {number // 2}" / f"{number}.dcm", number)
    refused = program("prepare", "--data", str(folders), status=2)
    assert "the folders are patients, not classes" in refused.stderr
    assert not program.leaks()


def test_embedding_and_evaluating_leak_nothing(study: Path, program: Program) -> None:
    data = ("--data", str(study))
    program("embed", *data, *ENGINE, *BACKEND, "--out", "store", "--json")
    program("eval", *data, *ENGINE, *BACKEND, "--out", "results", "--json")
    failures = pq.read_table(program.folder / "store" / "failures.parquet").to_pylist()
    assert len(failures) == 1 and failures[0]["reason"]  # the file that was cut short
    results = json.loads((program.folder / "results" / "results.json").read_text())
    assert results["dataset"]
    program("report", "results", "--out", "report")
    assert (program.folder / "report" / "report.html").stat().st_size > 1000
    assert not program.leaks()


@pytest.mark.slow
def test_training_and_predicting_leak_nothing(study: Path, program: Program) -> None:
    pytest.importorskip("peft")
    model = ("--model", "deit_tiny_patch16_224", "--weights", "random", "--image-size", "32")
    data = ("--data", str(study))
    program("train", "--protocol", "lora", *data, *model, "--steps", "2", "--out", "run")
    program("bundle", "run", *data, "--out", "bundle")
    program("predict", "bundle", str(study), "--out", "answers", "--json")
    program("predict", "bundle", str(study), "--out", "more", "--saliency", "occlusion")
    assert any((program.folder / "answers").iterdir())
    assert not program.leaks()


def test_identifiers_are_kept_only_where_asked(study: Path, program: Program) -> None:
    gone = study.parent / "gone.csv"
    gone.write_text("\n".join(["image,label", *(f"{WORD}{n}.dcm,{n % 2}" for n in range(9))]))
    words = (sys.executable, "-m", "dinorad_rt", "prepare", "--data", str(gone))
    environment = os.environ | {"DINORAD_RT_CACHE": str(program.cache)}
    silent = subprocess.run(words, capture_output=True, text=True, env=environment)
    asked = subprocess.run(
        [*words, "--keep-identifiers"], capture_output=True, text=True, env=environment
    )
    assert WORD not in silent.stderr and f"{WORD}3.dcm" in asked.stderr


def test_onnxruntime_reports_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    """From 1.29 on its wheels keep a session and a device id and send events by default."""
    pytest.importorskip("onnxruntime")
    code = "import dinorad_rt, onnxruntime"
    places = dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"), str(tmp_path))
    alone = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    subprocess.run([sys.executable, "-c", code], env=alone | places, check=True)
    assert list(tmp_path.rglob("*")) == []
