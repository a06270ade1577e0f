"""Masks: class indices that lie on their image, or a refusal that says what differs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from dinorad_rt.datasets.mask_classes import choices_of, class_facts
from dinorad_rt.datasets.masks import read_mask
from dinorad_rt.datasets.open import open_dataset
from dinorad_rt.errors import EmptyDataError, LabelError, MaskError, ProtocolError, TableError
from dinorad_rt.identifiers import kept
from dinorad_rt.studies.read import read_study

WriteTable = Callable[..., Path]

LPS = np.diag([-1.0, -1.0, 2.0, 1.0])
RAS = np.diag([1.0, 1.0, 2.0, 1.0])


def write_volume(path: Path, voxels: np.ndarray, affine: np.ndarray = RAS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(voxels, affine), path)


def write_pair(root: Path, number: int, affine: np.ndarray = RAS) -> np.ndarray:
    """An image and a mask of its bright half; returns the mask as stored."""
    voxels = np.random.default_rng(number).integers(0, 100, (6, 5, 4)).astype(np.int16)
    mask = (voxels > 50).astype(np.uint8) + (voxels > 80)
    write_volume(root / "imagesTr" / f"case_{number:02d}_0000.nii.gz", voxels, affine)
    write_volume(root / "labelsTr" / f"case_{number:02d}.nii.gz", mask.astype(np.uint8), affine)
    return mask


def test_real_volumes_equal_nibabel(shared_data: Path) -> None:
    dataset = open_dataset(shared_data / "mr_hippocampus3d")
    assert (dataset.task, len(dataset.samples)) == ("segmentation", 100)
    assert [len(dataset.of_split(s)) for s in ("train", "val", "test")] == [60, 20, 20]
    for sample in dataset.samples[:3]:
        assert sample.mask is not None
        canonical = nibabel.as_closest_canonical(nibabel.load(sample.mask))
        expected = np.asarray(canonical.dataobj).transpose(2, 1, 0)
        found = read_mask(sample)
        assert found.dtype == np.uint8 and np.array_equal(found, expected)
        assert found.shape == read_study(sample.path).pixels.shape


def test_real_radiographs_with_grey_edges(shared_data: Path) -> None:
    dataset = open_dataset(shared_data / "cxr_montgomery_tb_lung", task="segmentation")
    assert (dataset.task, len(dataset.samples)) == ("segmentation", 138)
    assert dataset.class_names == ("background", "foreground")
    sample = dataset.samples[0]
    assert sample.mask is not None
    expected = np.asarray(Image.open(sample.mask)) >= 128
    assert np.array_equal(read_mask(sample)[0], expected)
    assert open_dataset(shared_data / "cxr_montgomery_tb_lung").task == "binary"


def test_masks_turn_with_their_image(tmp_path: Path) -> None:
    for number in range(6):
        write_pair(tmp_path, number, LPS if number % 2 else RAS)
    dataset = open_dataset(tmp_path)
    assert dataset.task == "segmentation" and len(dataset.samples) == 6
    for sample in dataset.samples:
        image = read_study(sample.path)
        assert np.array_equal(read_mask(sample) > 0, image.pixels > 50)
        assert np.array_equal(read_mask(sample, displayed=True) > 0, image.displayed().pixels > 50)


def test_nnunet_names_its_classes(tmp_path: Path) -> None:
    for number in range(6):
        write_pair(tmp_path, number)
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "b": 2, "a": 1}}')
    assert open_dataset(tmp_path).class_names == ("background", "a", "b")
    (tmp_path / "dataset.json").write_text('{"labels": {"0": "background", "1": "only"}}')
    with pytest.raises(LabelError, match=r"6 of 6 masks hold the values \[2\]"):
        open_dataset(tmp_path)


def test_other_shapes_and_affines_are_listed(tmp_path: Path) -> None:
    for number in range(6):
        write_pair(tmp_path, number)
    moved = RAS.copy()
    moved[0, 3] = 3.0
    write_volume(tmp_path / "labelsTr" / "case_02.nii.gz", np.ones((6, 5, 4), np.uint8), moved)
    write_volume(tmp_path / "labelsTr" / "case_04.nii.gz", np.ones((6, 5, 3), np.uint8))
    with pytest.raises(MaskError) as caught:
        open_dataset(tmp_path)
    assert "2 of 6 masks do not lie on their image" in caught.value.problem
    assert "4 × 5 × 6 and 3 × 5 × 6 voxels" in caught.value.problem
    assert "corners lie 3 mm apart" in caught.value.problem
    assert "case_02" not in caught.value.problem
    with kept(), pytest.raises(MaskError, match="case_02"):
        open_dataset(tmp_path)


def test_rounded_headers_are_the_same_place(tmp_path: Path) -> None:
    for number in range(6):
        write_pair(tmp_path, number)
    nearly = RAS.copy()
    nearly[:3, 3] += 1e-3
    write_volume(tmp_path / "labelsTr" / "case_02.nii.gz", np.ones((6, 5, 4), np.uint8), nearly)
    assert len(open_dataset(tmp_path).samples) == 6


def test_files_in_pairs_and_255(tmp_path: Path) -> None:
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 255, (8, 8)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        mask = np.where(pixels > 100, 255, 0).astype(np.uint8)
        Image.fromarray(mask).save(tmp_path / f"{number}_mask.png")
    dataset = open_dataset(tmp_path, task="segmentation")
    assert len(dataset.samples) == 6 and dataset.class_names == ("background", "foreground")
    assert dataset.samples[0].mask_values == (0, 255)
    image = np.asarray(Image.open(dataset.samples[0].path))
    assert np.array_equal(read_mask(dataset.samples[0])[0], image > 100)


def test_one_file_per_class(tmp_path: Path, write_table: WriteTable) -> None:
    left, right = np.zeros((4, 6), np.uint8), np.zeros((4, 6), np.uint8)
    left[:, :2], right[:, 4:] = 255, 255
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 255, (4, 6)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        Image.fromarray(left).save(tmp_path / f"{number}_l.png")
        Image.fromarray(right).save(tmp_path / f"{number}_r.png")
    rows = [(f"{n}.png", f"{n}_l.png", f"{n}_r.png") for n in range(6)]
    table = write_table("image,left,right", rows)
    names = ("background", "left", "right")
    dataset = open_dataset(table, mask_column="left,right", class_names=names)
    assert dataset.class_names == names
    assert np.array_equal(read_mask(dataset.samples[0])[0][0], [1, 1, 0, 0, 2, 2])


@pytest.mark.parametrize("kind", ["probabilities", "photograph"])
def test_what_is_no_mask_is_refused(tmp_path: Path, write_table: WriteTable, kind: str) -> None:
    for number in range(6):
        random = np.random.default_rng(number)
        write_volume(tmp_path / f"{number}.nii", random.random((4, 4, 2)).astype(np.float32))
        mask = (
            random.random((4, 4, 2))
            if kind == "probabilities"
            else random.integers(0, 200, (4, 4, 2))
        )
        write_volume(tmp_path / f"m{number}.nii", mask.astype(np.float32))
    table = write_table("image,mask", [(f"{n}.nii", f"m{n}.nii") for n in range(6)])
    with pytest.raises(LabelError, match=r"fractions|no classes"):
        open_dataset(table)


def test_missing_masks(tmp_path: Path, write_table: WriteTable) -> None:
    for number in range(6):
        write_pair(tmp_path, number)
    names = [f"imagesTr/case_{n:02d}_0000.nii.gz" for n in range(6)]
    masks = [f"labelsTr/case_{n:02d}.nii.gz" for n in range(5)] + ["nowhere.nii.gz"]
    dataset = open_dataset(write_table("image,mask", list(zip(names, masks, strict=True))))
    assert len(dataset.samples) == 5
    assert any("1 image without a mask: left out" in note for note in dataset.notes)
    with pytest.raises(TableError, match="column for the mask"):
        open_dataset(write_table("image,age", [(n, 1) for n in names]), task="segmentation")
    with pytest.raises(EmptyDataError, match="None of 6 masks of column 'mask' exists"):
        open_dataset(write_table("image,mask", [(n, "x.nii") for n in names]))


def test_classification_protocols_refuse_masks(tmp_path: Path) -> None:
    from dinorad_rt.evaluation import check_protocol, settings_for

    for number in range(6):
        write_pair(tmp_path, number)
    with pytest.raises(ProtocolError, match="its truth are masks"):
        check_protocol(settings_for("knn", "dinorad", {}), open_dataset(tmp_path))


def _write_slices(folder: Path, mask: str, names: list[str]) -> None:
    for at, name in enumerate(names):
        pixels = np.random.default_rng(at).integers(0, 255, (9, 8), np.uint8)
        for path, values in (
            (folder / f"{name}.png", pixels),
            (folder / mask.format(name), np.uint8(pixels > 99)),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(path)


def test_folders_of_slices_are_patients(tmp_path: Path) -> None:
    """As in the LGG set: TCGA_CS_4941/TCGA_CS_4941_1.tif beside ..._1_mask.tif."""
    names = [f"P{p}/P{p}_{i}" for p in (11, 12, 25, 31, 40, 77) for i in range(3)]
    _write_slices(tmp_path / "beside", "{}_mask.png", names)
    _write_slices(tmp_path / "apart" / "images", "../masks/{}.png", names)
    for layout in ("beside", "apart"):
        dataset = open_dataset(tmp_path / layout, task="segmentation")
        assert len(dataset.samples) == 18
        assert len({sample.patient for sample in dataset.samples}) == 6
        assert any("sub-folders are taken for patients" in note for note in dataset.notes)


def test_splits_below_images_and_masks(tmp_path: Path) -> None:
    names = [f"{split}/{i}" for split, n in (("train", 6), ("val", 3)) for i in range(n)]
    _write_slices(tmp_path / "images", "../masks/{}.png", names)
    dataset = open_dataset(tmp_path, task="segmentation")
    assert dataset.facts["splits"].startswith("given")
    assert [len(dataset.of_split(s)) for s in ("train", "val", "test")] == [5, 1, 3]
    assert len({sample.patient for sample in dataset.samples}) == 9


def test_palettes_hold_class_numbers(tmp_path: Path) -> None:
    """As labelling tools write them; black and white in a palette stay black and white."""
    (tmp_path / "masks").mkdir()
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 255, (9, 8), np.uint8)
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")
        mask = Image.fromarray(np.uint8(pixels > 99) + np.uint8(pixels > 199))
        coloured = Image.new("P", mask.size)
        coloured.paste(mask)
        coloured.putpalette([0, 0, 0, 128, 128, 128, 0, 128, 0])
        coloured.save(tmp_path / "masks" / f"{number}.png")
    dataset = open_dataset(tmp_path)
    assert dataset.class_names == ("background", "class 1", "class 2")
    image = np.asarray(Image.open(dataset.samples[0].path))
    expected = np.uint8(image > 99) + np.uint8(image > 199)
    assert np.array_equal(read_mask(dataset.samples[0])[0], expected)
    for number in range(6):
        white = Image.new("P", (8, 9), 1)
        white.putpalette([0, 0, 0, 255, 255, 255, 0, 128, 0])
        white.save(tmp_path / "masks" / f"{number}.png")
    assert open_dataset(tmp_path).samples[0].mask_values == (0, 255)


def test_two_masks_or_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    names = [str(number) for number in range(6)]
    folder = tmp_path / "beside"
    _write_slices(folder, "{}_mask.png", names)
    (folder / "3_seg.png").write_bytes((folder / "3_mask.png").read_bytes())
    with pytest.raises(MaskError, match="Two masks side by side"):
        open_dataset(folder, task="segmentation")
    _write_slices(tmp_path / "images", "../masks/{}.png", names)
    Image.open(tmp_path / "images" / "3.png").save(tmp_path / "images" / "3.bmp")
    with pytest.raises(MaskError, match="Two images in images"):
        open_dataset(tmp_path)


def test_what_becomes_of_a_class_without_a_test_mask_is_told(
    tmp_path: Path, write_table: WriteTable
) -> None:
    """Found where it is not, it scores 0 and counts in the mean over classes."""
    _write_slices(tmp_path, "{}_mask.png", [str(number) for number in range(6)])
    Image.fromarray(np.full((9, 8), 2, np.uint8)).save(tmp_path / "0_mask.png")
    rows = [(f"{n}.png", f"{n}_mask.png", ("train", "val", "test")[n % 3]) for n in range(6)]
    notes = open_dataset(write_table("image,mask,split", rows)).notes
    assert "test has no sample of: class 2; where one is found, it counts as 0" in notes


def test_what_stands_alone_side_by_side_is_told(tmp_path: Path) -> None:
    _write_slices(tmp_path, "{}_mask.png", [str(number) for number in range(8)])
    (tmp_path / "3.png").unlink()
    (tmp_path / "5_mask.png").unlink()
    dataset = open_dataset(tmp_path, task="segmentation")
    assert len(dataset.samples) == 6
    assert "1 image without a mask: left out" in dataset.notes
    assert "1 mask without an image: left out" in dataset.notes


def test_a_folder_per_patient_with_an_image_and_its_mask(tmp_path: Path) -> None:
    for number in range(6):
        write_pair(tmp_path / "all", number)
        folder = tmp_path / "apart" / f"P{number}"
        folder.mkdir(parents=True)
        (tmp_path / f"all/imagesTr/case_{number:02d}_0000.nii.gz").rename(folder / "t1.nii.gz")
        (tmp_path / f"all/labelsTr/case_{number:02d}.nii.gz").rename(folder / "seg.nii.gz")
    dataset = open_dataset(tmp_path / "apart", task="segmentation")
    assert len(dataset.samples) == len({sample.patient for sample in dataset.samples}) == 6
    for sample in dataset.samples:
        assert np.array_equal(read_mask(sample) > 0, read_study(sample.path).pixels > 50)


def test_what_nnunet_leaves_out_and_ignores_is_told(tmp_path: Path) -> None:
    for number in range(6):
        write_pair(tmp_path, number)
        write_pair(tmp_path / "test", number + 6)
    (tmp_path / "test" / "imagesTr").rename(tmp_path / "imagesTs")
    notes = open_dataset(tmp_path).notes
    assert "6 images of imagesTs have no masks: neither trained nor judged on" in notes
    labels = '{"labels": {"background": 0, "a": 1, "ignore": 2}}'
    (tmp_path / "dataset.json").write_text(labels)
    with pytest.raises(TableError, match="label 'ignore'"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("values", [(0, 255), (255, 255), (0, 1, 4), (0, 60, 255), (0, 1, 9)])
def test_a_run_finds_its_classes_again(tmp_path: Path, values: tuple[int, ...]) -> None:
    """By the values that it holds, which need not be 0, 1, 2; without them, by guessed names."""
    _write_slices(tmp_path / "images", "../masks/{}.png", [str(number) for number in range(6)])
    for path in (tmp_path / "masks").iterdir():
        stored = np.random.default_rng(1).choice(values, (9, 8)).astype(np.uint8)
        Image.fromarray(stored).save(path)
    for described in (False, True):
        if described and len(values) == 3:
            labels = ", ".join(f'"{value}": "name {value}"' for value in values)
            (tmp_path / "dataset.json").write_text(f'{{"labels": {{{labels}}}}}')
        first = open_dataset(tmp_path)
        facts = json.loads(json.dumps(class_facts(first)))
        assert facts["mask_values"][-1] == max(values)
        again = open_dataset(tmp_path, **choices_of(facts))
        earlier = open_dataset(tmp_path, **choices_of({"class_names": facts["class_names"]}))
        assert again.fingerprint == earlier.fingerprint == first.fingerprint
        masks = [read_mask(dataset.samples[0]) for dataset in (first, again, earlier)]
        assert np.array_equal(masks[0], masks[1]) and np.array_equal(masks[0], masks[2])
        assert masks[0].max() == len(first.class_names) - 1


def test_smoothed_edges_of_a_file_per_class(tmp_path: Path, write_table: WriteTable) -> None:
    """JPEG masks have values beside 0 and the brightest, which need not be 255."""
    rows, columns = np.mgrid[:128, :128]
    disc = (rows - 60) ** 2 + (columns - 50) ** 2 < 30**2
    for number in range(6):
        Image.fromarray(np.uint8(disc * 90 + number)).save(tmp_path / f"{number}.png")
        Image.fromarray(np.uint8(disc * 190)).save(tmp_path / f"{number}_a.jpg", quality=80)
        Image.fromarray(np.uint8(~disc * 200)).save(tmp_path / f"{number}_b.png")
    held = np.asarray(Image.open(tmp_path / "0_a.jpg"))
    assert 130 < held.max() < 255 and ((held > 0) & ~disc).any()
    rows_of = [(f"{n}.png", f"{n}_a.jpg", f"{n}_b.png") for n in range(6)]
    table = write_table("image,a,b", rows_of)
    found = read_mask(open_dataset(table, mask_column="a,b").samples[0])[0]
    assert np.array_equal(found, np.where(disc, 1, 2))
    found = read_mask(open_dataset(table, mask_column="b,a").samples[0])[0]
    assert np.array_equal(found, np.where(disc, 2, 1))
    noise = np.random.default_rng(0).integers(0, 255, (128, 128), np.uint8)
    Image.fromarray(noise).save(tmp_path / "0_b.png")
    with pytest.raises(LabelError, match="is an image"):
        [read_mask(sample) for sample in open_dataset(table, mask_column="a,b").samples]
