"""The user's data in every shape that it comes in, and every way in which it is wrong."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dinorad_rt.datasets.open import open_dataset
from dinorad_rt.errors import EmptyDataError, LabelError, LeakageError, TableError
from dinorad_rt.identifiers import kept
from dinorad_rt.studies.pseudonym import pseudonym

WriteImages = Callable[..., None]
WriteTable = Callable[..., Path]


ROWS = [(f"img/{i} a.png", i % 2, f"p{i // 2}") for i in range(20)]
NAMES = [row[0] for row in ROWS]


@pytest.mark.parametrize(
    ("name", "samples", "task", "last", "test"),
    [
        ("mri_brain_tumor_yesno", 253, "binary", "yes", 50),
        ("ct_head_hemorrhage", 200, "binary", "hemorrhage", 40),
        ("cxr_montgomery_tb_lung", 138, "binary", "tb", 27),
        ("cxr_nih1000_multilabel", 500, "multilabel", "Hernia", 100),
    ],
)
def test_real_sets(
    shared_data: Path, name: str, samples: int, task: str, last: str, test: int
) -> None:
    dataset = open_dataset(shared_data / name)
    assert (dataset.name, dataset.task, len(dataset.samples)) == (name, task, samples)
    assert dataset.class_names[-1] == last and len(dataset.of_split("test")) == test
    assert all(sample.path.is_file() for sample in dataset.samples)
    with (shared_data / name / "labels.csv").open(encoding="utf-8") as file:
        for row, sample in zip(csv.DictReader(file), dataset.samples, strict=True):
            assert dataset.name_of(sample) == row["image"] and sample.split == row["split"]
            if "patient" in row:
                assert sample.patient == pseudonym("patient", row["patient"])
            if task == "multilabel":
                assert list(sample.labels) == [int(row[c]) for c in dataset.class_names]
            else:
                assert sample.labels == (int(row["label"]),)
    said = any("no patient column" in note for note in dataset.notes)
    assert said == (name != "cxr_nih1000_multilabel")


def test_a_segmentation_set_is_no_classification_set(shared_data: Path) -> None:
    with pytest.raises(LabelError, match="segmentation masks, not a classification set"):
        open_dataset(shared_data / "mr_hippocampus3d", task="classification")


def test_masks_are_found(shared_data: Path) -> None:
    dataset = open_dataset(shared_data / "cxr_montgomery_tb_lung")
    assert all(sample.mask is not None and sample.mask.is_file() for sample in dataset.samples)


def test_the_real_leak_is_refused(shared_data: Path) -> None:
    with pytest.raises(LeakageError, match="19 of 132 patients"):
        open_dataset(shared_data / "cxr_nih1000_multilabel", split_column="upstream_split")


@pytest.mark.parametrize(
    "header",
    [
        "image,label,patient",
        "Image Path,Label,Patient ID",
        "filename,class,subject_id",
        "FILE,Diagnosis,PatientID",
        "Image Index,Finding Labels,case",
        "where it lies,target,pid",
    ],
)
def test_columns_are_found_by_their_usual_names(
    write_images: WriteImages, write_table: WriteTable, header: str
) -> None:
    write_images(*NAMES)
    dataset = open_dataset(write_table(header, ROWS, "my data.csv"))
    assert dataset.name == "my data" and len(dataset.samples) == 20
    assert len({sample.patient for sample in dataset.samples}) == 10
    assert any("split by patient" in note for note in dataset.notes)


def test_named_columns(write_images: WriteImages, write_table: WriteTable) -> None:
    write_images(*NAMES)
    rows = [(*row, "no", "train" if i < 12 else "test") for i, row in enumerate(ROWS)]
    table = write_table("a,b,c,label,e", rows)
    dataset = open_dataset(
        table, image_column="a", label_column="b", patient_column="c", split_column="e"
    )
    assert len(dataset.of_split("train")) == 12 and dataset.facts["splits"] == "given"
    with pytest.raises(TableError, match=r"no column 'x'. Columns found: a, b, c, label, e"):
        open_dataset(table, image_column="x")
    with pytest.raises(TableError, match="no column 'y'"):
        open_dataset(table, image_column="a", label_column="y")


@pytest.mark.parametrize("mask", ["", "a_mask.png"])
def test_several_label_columns(
    write_images: WriteImages, write_table: WriteTable, mask: str
) -> None:
    write_images(*NAMES)
    rows = [(name, n % 2, n % 3 == 0, mask) for n, name in enumerate(NAMES)]
    table = write_table("image,edema,mass,mask", rows)
    dataset = open_dataset(table, label_column="mass, edema")
    assert dataset.task == "multilabel" and dataset.class_names == ("mass", "edema")


def test_missing_columns_list_what_is_there(
    write_images: WriteImages, write_table: WriteTable
) -> None:
    write_images(*NAMES)
    table = write_table("image,age", [(name, 33.5) for name in NAMES])
    with pytest.raises(TableError, match="column for the label. Columns found: image, age") as one:
        open_dataset(table)
    assert "--label-column" in one.value.fix
    table = write_table("label,age", [(i % 2, 33) for i in range(9)])
    with pytest.raises(TableError, match="column for the image") as two:
        open_dataset(table)
    assert "--image-column" in two.value.fix


@pytest.mark.parametrize("kind", ["absolute", "windows", "prefixed", "name", "stem"])
def test_paths_of_every_kind(
    tmp_path: Path, write_images: WriteImages, write_table: WriteTable, kind: str
) -> None:
    write_images(*NAMES)
    spelled = {
        "absolute": lambda name: str(tmp_path / name),
        "windows": lambda name: name.replace("/", "\\"),
        "prefixed": lambda name: f"Set-v1.0/train/{name}",
        "name": lambda name: Path(name).name,
        "stem": lambda name: Path(name).stem,
    }[kind]
    dataset = open_dataset(write_table("image,label", [(spelled(n), i % 2) for n, i, _ in ROWS]))
    assert [dataset.name_of(sample) for sample in dataset.samples] == NAMES


def test_folders_tell_files_of_one_name_apart(
    tmp_path: Path, write_images: WriteImages, write_table: WriteTable
) -> None:
    """Paths that begin elsewhere, as those of CBIS-DDSM's tables below a folder of the download."""
    names = [f"download/case{n // 2}/{'ab'[n % 2]}/000000.png" for n in range(12)]
    write_images(*names)
    listed = [(name.removeprefix("download/"), n % 2) for n, name in enumerate(names)]
    dataset = open_dataset(write_table("image,label", listed))
    assert [dataset.name_of(sample) for sample in dataset.samples] == names
    with pytest.raises(TableError, match="column for the image"):
        open_dataset(write_table("x,label", [("000000.png", n % 2) for n in range(12)]))


def test_a_file_of_a_registered_set_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "pneumoniamnist.npz").write_bytes(b"PK")
    with pytest.raises(EmptyDataError, match="is one file") as caught:
        open_dataset(tmp_path / "pneumoniamnist.npz")
    assert "--dataset pneumoniamnist" in caught.value.fix


def test_semicolons_bom_and_windows_text(tmp_path: Path, write_images: WriteImages) -> None:
    write_images("ä.png", "b.png", "c.png", "d.png")
    text = "image;label\r\nä.png;gut\r\nb.png;übel\r\nc.png;gut\r\nd.png;übel\r\n"
    for encoding in ("utf-8-sig", "cp1252", "utf-16"):
        (tmp_path / "labels.csv").write_bytes(text.encode(encoding))
        assert open_dataset(tmp_path).class_names == ("gut", "übel")


def test_a_few_missing_files_are_said_and_many_refused(
    tmp_path: Path, write_images: WriteImages, write_table: WriteTable
) -> None:
    write_images(*NAMES[:18], "img/extra.png", "img/.hidden.png")
    table = write_table("image,label,patient", ROWS)
    dataset = open_dataset(table)
    assert len(dataset.samples) == 20
    assert any("2 of 20 listed files do not exist" in note for note in dataset.notes)
    assert any("1 image beside the listed ones" in note for note in dataset.notes)
    shutil.rmtree(tmp_path / "img")
    with pytest.raises(EmptyDataError, match="20 of 20 listed files do not exist") as caught:
        open_dataset(table)
    assert NAMES[0] not in caught.value.problem and "--keep-identifiers" in caught.value.problem
    with kept(), pytest.raises(EmptyDataError) as caught:
        open_dataset(table)
    assert NAMES[0] in caught.value.problem and "10 more" in caught.value.problem


def test_class_folders(tmp_path: Path, write_images: WriteImages) -> None:
    write_images(*(f"no tumour/{i}.PNG" for i in range(10)), *(f"tumour/{i}" for i in range(10)))
    write_images(".cache/x.png", "tumour/.hidden.png")
    (tmp_path / "tumour" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "README.md").write_text("text")
    dataset = open_dataset(tmp_path)
    assert dataset.class_names == ("no tumour", "tumour") and len(dataset.samples) == 20
    names = [dataset.name_of(sample) for sample in dataset.samples]
    assert names[9] == "no tumour/9.PNG" and names[10] == "tumour/0"
    counts = [len(dataset.of_split(split)) for split in ("train", "val", "test")]
    assert counts == [12, 4, 4]


def test_split_and_class_folders(tmp_path: Path, write_images: WriteImages) -> None:
    for split, count in (("Train", 6), ("valid", 2), ("TEST", 2)):
        write_images(*(f"{split}/{c}/{split}{i}.jpg" for c in "ab" for i in range(count)))
    dataset = open_dataset(tmp_path)
    assert [len(dataset.of_split(s)) for s in ("train", "val", "test")] == [12, 4, 4]
    assert dataset.facts["splits"] == "given"


def test_sub_folders_of_classes_are_patients(tmp_path: Path, write_images: WriteImages) -> None:
    write_images(*(f"{c}/Patient ({p})/{i}.png" for c in "ab" for p in range(5) for i in range(3)))
    dataset = open_dataset(tmp_path)
    assert len({sample.patient for sample in dataset.samples}) == 10
    assert any("sub-folders" in note for note in dataset.notes)


def test_val_stands_in_for_test(write_images: WriteImages, write_table: WriteTable) -> None:
    write_images(*NAMES)
    rows = [(n, i, "train" if k < 12 else "val") for k, (n, i, _) in enumerate(ROWS)]
    dataset = open_dataset(write_table("image,label,split", rows))
    assert len(dataset.of_split("test")) == 8
    assert "no test split: val is used as test" in dataset.notes


def test_one_table_per_split(
    tmp_path: Path, write_images: WriteImages, write_table: WriteTable
) -> None:
    write_images(*NAMES)
    for name, part in (("train.csv", ROWS[:12]), ("val.csv", ROWS[12:16]), ("test.csv", ROWS[16:])):
        write_table("image,label,patient", part, name)
    dataset = open_dataset(tmp_path)
    assert [len(dataset.of_split(s)) for s in ("train", "val", "test")] == [12, 4, 4]


@pytest.mark.parametrize(
    ("labels", "error", "words"),
    [
        (["1"] * 20, LabelError, "one label: '1'"),
        (["x", ""] * 10, TableError, "blank in 10 rows"),
        ([f"report {i}" for i in range(20)], LabelError, "no classes"),
        ([f"{i / 7:.3f}" for i in range(20)], LabelError, "real numbers"),
    ],
)
def test_labels_that_cannot_be_used(
    write_images: WriteImages,
    write_table: WriteTable,
    labels: list[str],
    error: type[Exception],
    words: str,
) -> None:
    write_images(*NAMES)
    rows = [(name, label) for name, label in zip(NAMES, labels, strict=True)]
    with pytest.raises(error, match=words):
        open_dataset(write_table("image,label", rows))


def test_a_patient_in_two_splits_is_refused(
    write_images: WriteImages, write_table: WriteTable
) -> None:
    write_images(*NAMES)
    rows = [(*row, "train" if i != 1 else "test") for i, row in enumerate(ROWS)]
    with pytest.raises(LeakageError, match="1 of 10 patients") as caught:
        open_dataset(write_table("image,label,patient,split", rows))
    assert NAMES[1] not in caught.value.problem and "p0" not in caught.value.problem
    with kept(), pytest.raises(LeakageError) as caught:
        open_dataset(write_table("image,label,patient,split", rows))
    assert NAMES[1] in caught.value.problem and "p0" not in caught.value.problem


def test_unknown_splits_are_refused(write_images: WriteImages, write_table: WriteTable) -> None:
    write_images(*NAMES)
    rows = [(n, i, "train" if k < 12 else "tset") for k, (n, i, _) in enumerate(ROWS)]
    with pytest.raises(TableError, match="'tset' in 8 rows"):
        open_dataset(write_table("image,label,split", rows))
    dataset = open_dataset(write_table("image,label,fold", [(n, i, 3) for n, i, _ in ROWS]))
    assert any("'fold' holds no train" in note for note in dataset.notes)


@pytest.mark.parametrize("what", ["nothing", "empty", "text", "header", "one file"])
def test_nothing_is_told_as_such(tmp_path: Path, write_images: WriteImages, what: str) -> None:
    data = tmp_path / "data"
    if what != "nothing":
        data.mkdir()
    if what == "text":
        (data / "a").mkdir()
        (data / "a" / "notes.txt").write_text("text")
    if what == "header":
        (data / "labels.csv").write_text("image,label\n")
    if what == "one file":
        write_images("a.png")
        data = tmp_path / "a.png"
    with pytest.raises(EmptyDataError) as caught:
        open_dataset(data)
    assert caught.value.fix


def test_images_without_class_folders_are_told(tmp_path: Path, write_images: WriteImages) -> None:
    write_images("a.png", "b.png")
    with pytest.raises(LabelError, match="2 images, but nothing says their class"):
        open_dataset(tmp_path)
    write_images("only/c.png")
    with pytest.raises(LabelError, match="all in one class folder, 'only'"):
        open_dataset(tmp_path)


def test_labels_in_a_spreadsheet_are_told(tmp_path: Path, write_images: WriteImages) -> None:
    write_images(*(f"images/{i}.png" for i in range(8)))
    (tmp_path / "labels.xlsx").write_bytes(b"PK\x03\x04")
    with pytest.raises(LabelError, match="1 spreadsheet in the folder cannot be read") as caught:
        open_dataset(tmp_path)
    assert "save it as labels.csv" in caught.value.fix


def test_hashes_do_not_depend_on_the_key_and_samples_do(
    write_images: WriteImages, write_table: WriteTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(*NAMES)
    table = write_table("image,label,patient", ROWS)
    first = open_dataset(table)
    monkeypatch.setenv("DINORAD_RT_KEY", "k" * 32)
    second = open_dataset(write_table("image,label,patient", ROWS[::-1]))
    assert (first.fingerprint, first.split_hash) == (second.fingerprint, second.split_hash)
    assert {s.sample_id for s in first.samples}.isdisjoint(s.sample_id for s in second.samples)
    other = open_dataset(table, seed=1)
    assert other.split_hash != first.split_hash and other.fingerprint != first.fingerprint


def test_nothing_that_may_be_stored_names_a_patient(
    write_images: WriteImages, write_table: WriteTable
) -> None:
    write_images(*(f"Doe^Jane/{i}.png" for i in range(20)))
    rows = [(f"Doe^Jane/{i}.png", i % 2, f"MRN-{i}") for i in range(20)]
    dataset = open_dataset(write_table("image,label,patient", rows))
    stored = repr([dataset.notes, dataset.facts, dataset.fingerprint, dataset.class_names])
    stored += repr([(s.sample_id, s.patient, s.study, s.series) for s in dataset.samples])
    assert "Doe" not in stored and "MRN" not in stored


def test_labels_array(write_images: WriteImages, write_table: WriteTable) -> None:
    write_images(*NAMES)
    rows = [(n, "a|b" if i else "c", p) for n, i, p in ROWS]
    dataset = open_dataset(write_table("image,label,patient", rows))
    assert dataset.task == "multilabel" and dataset.class_names == ("a", "b", "c")
    assert np.array_equal(dataset.labels_array()[:2], [[0, 0, 1], [1, 1, 0]])


def test_patients_without_a_name_are_not_one_patient(
    write_images: WriteImages, write_table: WriteTable
) -> None:
    write_images(*NAMES)
    words = ("nan", "None", "", "NULL")
    rows = [(n, c, words[i % 4] if i < 8 else f"{i // 2}.0") for i, (n, c, _) in enumerate(ROWS)]
    dataset = open_dataset(write_table("image,label,patient", rows))
    assert len({sample.patient for sample in dataset.samples}) == 8 + 6
    assert dataset.samples[8].patient == pseudonym("patient", "4")


def test_one_file_under_two_paths_is_one_image(
    write_images: WriteImages, write_table: WriteTable
) -> None:
    write_images(*NAMES)
    rows = [(name, label, "train" if i < 12 else "test") for i, (name, label, _) in enumerate(ROWS)]
    table = write_table("image,label,split", [*rows, ("img/../img/0 a.png", 0, "test")])
    with pytest.raises(TableError, match="listed twice"):
        open_dataset(table)


def test_unicode_forms_of_one_file_name(write_images: WriteImages, write_table: WriteTable) -> None:
    write_images(*(f"img/Lu\u0308tt{i}.png" for i in range(8)))
    table = write_table("image,label", [(f"img/L\u00fctt{i}.png", i % 2) for i in range(8)])
    assert all(sample.path.is_file() for sample in open_dataset(table).samples)


def test_capitals_of_file_names_matter_only_where_they_must(
    write_images: WriteImages, write_table: WriteTable
) -> None:
    """Tables come from Windows, where they do not."""
    write_images("a/IM1.png", "a/im2.PNG", "a/im3.png", "b/IM3.png")
    rows = [("A/im1.PNG", 0), ("im2.png", 1), ("im3.png", 0), ("IM3.png", 1)]
    dataset = open_dataset(write_table("image,label", rows))
    names = [dataset.name_of(sample) for sample in dataset.samples]
    assert names == ["a/IM1.png", "a/im2.PNG", "a/im3.png", "b/IM3.png"]


def test_frames_of_one_file_without_patients(tmp_path: Path, write_table: WriteTable) -> None:
    for index, name in enumerate("abc"):
        np.save(tmp_path / f"{name}.npy", np.full((5, 3, 4), index, np.uint8))
    rows = [(f"{name}.npy", i, i % 2) for name in "abc" for i in range(5)]
    dataset = open_dataset(write_table("image,frame,label", rows))
    assert len({sample.patient for sample in dataset.samples}) == 3
    assert any("all frames of one file count as one patient" in note for note in dataset.notes)
