"""NumPy and MATLAB arrays; pickles and links never load."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from dinorad_rt.errors import UnreadableFileError
from dinorad_rt.studies.pseudonym import pseudonym
from dinorad_rt.studies.read import read_study

VOLUME = np.random.default_rng(0).integers(-1000, 1000, (3, 5, 7)).astype(np.int16)
RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


class Evil:
    """Would run code if it were unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return json.loads, ('"run"',)


@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<f4", ">u2"])
def test_volumes_keep_values_in_native_order(tmp_path: Path, dtype: str) -> None:
    volume = np.abs(VOLUME).astype(dtype)
    np.save(tmp_path / "a.npy", volume)
    study = read_study(tmp_path / "a.npy")
    assert study.pixels.dtype.isnative and np.array_equal(study.pixels, volume)
    assert study.units == "stored"
    assert np.array_equal(read_study(tmp_path / "a.npy", frame=2).pixels, volume[2:])


def test_planes_and_colours(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", VOLUME[0])
    assert np.array_equal(read_study(tmp_path / "a.npy").pixels, VOLUME[:1])
    np.save(tmp_path / "b.npy", RGB)
    assert np.array_equal(read_study(tmp_path / "b.npy").pixels, RGB[None])
    np.save(tmp_path / "c.npy", np.stack([RGB, RGB]))
    assert read_study(tmp_path / "c.npy").pixels.shape == (2, 5, 7, 3)
    np.save(tmp_path / "d.npy", VOLUME[0] > 0)
    assert set(np.unique(read_study(tmp_path / "d.npy").pixels)) == {0, 255}


def test_npz_takes_the_image(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", image=VOLUME, mask=VOLUME > 0, age=np.array([50]))
    assert np.array_equal(read_study(tmp_path / "a.npz").pixels, VOLUME)
    np.savez_compressed(tmp_path / "b.npz", VOLUME)
    assert np.array_equal(read_study(tmp_path / "b.npz").pixels, VOLUME)
    np.savez(tmp_path / "c.npz", first=VOLUME, second=VOLUME)
    with pytest.raises(UnreadableFileError, match="first, second"):
        read_study(tmp_path / "c.npz")


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    objects = np.array([[Evil()]], dtype=object)
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "b.npz", image=objects)
    for name in ("a.npy", "b.npz"):
        with pytest.raises(UnreadableFileError, match="can run code"):
            read_study(tmp_path / name)


@pytest.mark.parametrize(
    "array", [np.ones(4), np.ones((2, 2, 2, 2)), np.ones((2, 2), complex), np.array([["a"]])]
)
def test_what_is_no_image_is_refused(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(UnreadableFileError):
        read_study(tmp_path / "a.npy")


def test_matlab_brain_tumour_layout(tmp_path: Path, cache: Path) -> None:
    image = np.arange(12, dtype=np.int16).reshape(3, 4)
    with h5py.File(tmp_path / "1.mat", "w", userblock_size=512) as file:
        file["cjdata/image"] = image.T
        file["cjdata/tumorMask"] = np.ones((4, 3), np.uint8)
        file["cjdata/PID"] = np.array([[ord(c)] for c in "100360"], np.uint16)
        file["cjdata/label"] = [[1.0]]
    study = read_study(tmp_path / "1.mat")
    assert np.array_equal(study.pixels, image[None])
    assert study.patient == pseudonym("patient", "100360")


def test_matlab_volumes_and_links(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file["vol"] = VOLUME.transpose(0, 2, 1)  # MATLAB (rows, columns, slices), stored reversed
    assert np.array_equal(read_study(tmp_path / "a.mat").pixels, VOLUME)
    with h5py.File(tmp_path / "b.mat", "w") as file:
        file["image"] = h5py.ExternalLink(str(tmp_path / "a.mat"), "/vol")
    with pytest.raises(UnreadableFileError, match="no single image"):
        read_study(tmp_path / "b.mat")
    (tmp_path / "a.mat").rename(tmp_path / "a.h5")
    with pytest.raises(UnreadableFileError, match="HDF5 file of a program that is not known"):
        read_study(tmp_path / "a.h5")


def test_old_matlab_files_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.mat").write_bytes(b"MATLAB 5.0 MAT-file" + b"\0" * 200)
    with pytest.raises(UnreadableFileError, match="older than 7.3"):
        read_study(tmp_path / "a.mat")


def test_one_grey_channel_at_the_end_is_no_axis_of_slices(tmp_path: Path) -> None:
    grey = np.arange(48, dtype=np.uint8).reshape(6, 8)
    np.save(tmp_path / "keras.npy", grey[..., None])
    np.save(tmp_path / "volume.npy", np.stack([grey, grey + 1])[..., None])
    assert np.array_equal(read_study(tmp_path / "keras.npy").pixels, grey[None])
    assert np.array_equal(read_study(tmp_path / "volume.npy").pixels, [grey, grey + 1])
