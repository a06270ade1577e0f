"""`embed`: right numbers in the right rows, bad files as data, resume, refusals."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel
import numpy as np
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dinorad_rt import identifiers
from dinorad_rt.datasets.dataset import Sample
from dinorad_rt.embeddings.store import EmbeddingStore
from dinorad_rt.errors import (
    DataError,
    EmptyDataError,
    EngineError,
    MissingPackageError,
    NoSpaceError,
    OutputExistsError,
)
from dinorad_rt.preprocessing.reference import normalise
from dinorad_rt.studies.study import Study

Run = Callable[..., Any]


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def _pixels(path: Path, fakes: ModuleType) -> np.ndarray:
    """Pillow's own resize and plain arithmetic instead of our preprocessing."""
    grey = Image.open(path).convert("F").resize((fakes.SIZE, fakes.SIZE), Image.Resampling.BICUBIC)
    scaled = np.clip(np.asarray(grey, np.float32) / 255.0, 0.0, 1.0)
    return normalise(np.stack([scaled] * 3), fakes.SPEC.mean, fakes.SPEC.std)


def test_each_row_is_its_own_image(run: Run, fakes: ModuleType, tmp_path: Path) -> None:
    dataset = fakes.png_dataset(tmp_path / "data")
    store = run(dataset, tmp_path / "store")
    table = store.load()
    wanted = fakes.embedding_of(np.stack([_pixels(s.path, fakes) for s in dataset.samples]))
    scale = np.abs(wanted["cls"]).max()
    np.testing.assert_allclose(table.cls / scale, wanted["cls"] / scale, atol=2e-3)
    np.testing.assert_allclose(table.patch_mean, wanted["patch_mean"], atol=2e-2)
    assert table.sample_ids.tolist() == [s.sample_id for s in dataset.samples]
    assert table.patients.tolist() == [s.patient for s in dataset.samples]
    assert table.splits.tolist() == [s.split for s in dataset.samples]
    np.testing.assert_array_equal(table.labels, dataset.labels_array())
    assert (table.slices == -1).all() and store.failures() == []


def test_others_can_read_the_shards(run: Run, fakes: ModuleType, tmp_path: Path) -> None:
    """Parquet by the standard: pyarrow's data set reader, and shapes from the provenance."""
    store = run(fakes.png_dataset(tmp_path / "data"), tmp_path / "store")
    shards = sorted(store.folder.glob("shard-*.parquet"))
    rows = pyarrow.dataset.dataset(shards).to_table()
    assert rows.num_rows == 22 and [pq.read_metadata(s).num_rows for s in shards] == [8, 8, 6]
    blocks, dim = store.provenance["embeddings"]["cls"]
    assert rows.schema.field("cls").type == pyarrow.list_(pyarrow.float32(), blocks * dim)
    assert rows.column("labels").to_pylist() == [[index % 2] for index in range(22)]
    cls = np.array(rows.column("cls").to_pylist(), np.float32).reshape(-1, blocks, dim)
    np.testing.assert_array_equal(cls, store.load().cls)


def test_a_bad_file_is_a_row_of_the_failures(run: Run, fakes: ModuleType, tmp_path: Path) -> None:
    good = run(fakes.png_dataset(tmp_path / "good"), tmp_path / "all").load()
    dataset = fakes.png_dataset(tmp_path / "data", bad=(3, 4, 21))
    dataset.samples[9].path.unlink()
    with identifiers.kept():
        store = run(dataset, tmp_path / "store")
    table, lost = store.load(), [3, 4, 9, 21]
    kept = [index for index in range(22) if index not in lost]
    np.testing.assert_array_equal(table.cls, good.cls[kept])
    listed = pq.read_table(store.folder / "failures.parquet").to_pylist()
    assert [row["path"] for row in listed] == [dataset.samples[at].path.name for at in lost]
    assert [item.sample_id for item in store.failures()] == [
        dataset.samples[at].sample_id for at in lost
    ]
    assert all(row["reason"] for row in listed) and "does not exist" in listed[2]["reason"]


def test_nothing_in_the_store_names_a_patient(run: Run, fakes: ModuleType, tmp_path: Path) -> None:
    """File names may hold identifiers: failures.parquet has them where the user asks for it."""
    store = run(fakes.png_dataset(tmp_path / "data", bad=(3,)), tmp_path / "store")
    assert len(store.failures()) == 1
    for name, content in _contents(store.folder).items():
        assert str(tmp_path).encode() not in content, name
        assert b"Doe" not in content, name
    assert b"Doe" not in repr(pq.read_table(store.folder / "failures.parquet").to_pylist()).encode()


def test_all_bad_is_an_error_and_is_tried_again(
    run: Run, fakes: ModuleType, tmp_path: Path
) -> None:
    dataset = fakes.png_dataset(tmp_path / "data", count=5, bad=(0, 1, 2, 3, 4))
    with pytest.raises(EmptyDataError, match=r"None of the 5 images .*\n  an image: ") as refused:
        run(dataset, tmp_path / "store")
    assert refused.value.exit_code == 2 and "failures.parquet" in refused.value.fix
    with (
        identifiers.kept(),
        pytest.raises(EmptyDataError, match=r"None of the 5 images .*\n.*000\.png: "),
    ):
        run(dataset, tmp_path / "store")
    fakes.png_dataset(tmp_path / "data", count=5)
    assert len(run(dataset, tmp_path / "store").load()) == 5


def test_failures_are_tried_again_on_request(run: Run, fakes: ModuleType, tmp_path: Path) -> None:
    dataset = fakes.png_dataset(tmp_path / "data", bad=(3,))
    run(dataset, tmp_path / "store")
    fakes.png_dataset(tmp_path / "data")
    assert len(run(dataset, tmp_path / "store").failures()) == 1
    store = run(dataset, tmp_path / "store", retry_failed=True)
    assert store.failures() == [] and len(store.load()) == 22
    assert [runner.rows for runner in run.runners] == [21, 8]  # type: ignore[attr-defined]


def test_the_same_question_is_not_computed_twice(
    run: Run, fakes: ModuleType, tmp_path: Path, cache: Path
) -> None:
    dataset = fakes.png_dataset(tmp_path / "data")
    first = run(dataset, None)
    assert first.folder == cache / "embeddings" / first.key
    before = _contents(first.folder)
    shuffled = replace(dataset, samples=dataset.samples[::-1])
    for again in (dataset, shuffled):
        assert run(again, None, shard_rows=4).folder == first.folder
    assert len(run.runners) == 1 and _contents(first.folder) == before  # type: ignore[attr-defined]


_KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import fakes
import dinorad_rt.engines.build as build
from dinorad_rt.embeddings.embed import embed
pause = float(sys.argv[4])
build.open_runner = lambda engine: fakes.FakeRunner(engine, pause=pause)
data = fakes.png_dataset(Path(sys.argv[2]), count=60, bad=(5, 30))
tell = lambda done, total: print(done, flush=True)
embed(data, fakes.fake_engine(), fakes.SPEC, sys.argv[3], workers=2, shard_rows=8, progress=tell)
"""


def _embed_in_process(data: Path, store: Path, pause: float, kill_at: int | None = None) -> None:
    arguments = [str(Path(__file__).parent), str(data), str(store), str(pause)]
    with subprocess.Popen(
        [sys.executable, "-c", _KILLED, *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if kill_at is not None and int(line) >= kill_at:
                process.kill()
                break
        process.stdout.read()
    assert process.returncode == (0 if kill_at is None else -9)


@pytest.mark.parametrize("kills", [(20,), (3, 30, 55)])
def test_a_killed_run_goes_on_to_the_same_store(tmp_path: Path, kills: tuple[int, ...]) -> None:
    data = tmp_path / "data"
    _embed_in_process(data, tmp_path / "whole", 0.0)
    for kill_at in kills:
        _embed_in_process(data, tmp_path / "store", 0.05, kill_at)
    unfinished = EmbeddingStore.open(tmp_path / "store")
    assert 0 < len(unfinished.missing_shards()) < 8
    with pytest.raises(DataError, match="not finished"):
        unfinished.load("test")
    _embed_in_process(data, tmp_path / "store", 0.0)
    assert _contents(tmp_path / "store") == _contents(tmp_path / "whole")


def test_parts_write_one_store(run: Run, fakes: ModuleType, tmp_path: Path) -> None:
    dataset = fakes.png_dataset(tmp_path / "data", count=40, bad=(5, 30))
    whole = run(dataset, tmp_path / "whole")
    counts = []
    for part in (2, 0, 1):
        progress: list[tuple[int, int]] = []
        store = run(
            dataset,
            tmp_path / "parts",
            shard=(part, 3),
            progress=lambda done, total, seen=progress: seen.append((done, total)),
        )
        counts.append(progress[-1])
        assert progress == sorted(progress) and progress[-1][0] == progress[-1][1]
        assert bool(store.missing_shards()) == (part != 1)
    assert counts == [(8, 8), (16, 16), (16, 16)]
    assert _contents(store.folder) == _contents(whole.folder)


def test_small_data_is_shared_out_among_many_parts(
    run: Run, fakes: ModuleType, tmp_path: Path
) -> None:
    dataset = fakes.png_dataset(tmp_path / "data", count=16)
    for part in range(4):
        store = run(dataset, tmp_path / "store", shard=(part, 4), shard_rows=256)
    rows = [runner.rows for runner in run.runners]  # type: ignore[attr-defined]
    assert rows == [4, 4, 4, 4] and len(store.load()) == 16


def _volumes(root: Path, fakes: ModuleType) -> Any:
    root.mkdir()
    rng = np.random.default_rng(1)
    samples = []
    for index, depth in enumerate((5, 11, 1, 3)):
        voxels = rng.integers(0, 800, (12, 14, depth)).astype(np.int16)
        path = root / f"{index}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(voxels, np.diag([-1.0, -1.0, 2.0, 1.0])), path)
        samples.append(Sample(f"s{index}", path, f"p{index}", "train", (index % 2,)))
    np.save(root / "frames.npy", rng.integers(0, 255, (6, 20, 20)).astype(np.uint8))
    for frame in (4, 0, 9):
        ident = f"f{frame}"
        samples.append(Sample(ident, root / "frames.npy", "q", "test", (0,), frame=frame))
    return fakes.dataset_of(root, samples)


@pytest.mark.parametrize("shard_rows", [1, 8])
def test_a_volume_gives_a_row_for_each_slice(
    run: Run, fakes: ModuleType, tmp_path: Path, shard_rows: int
) -> None:
    """Slices as nibabel orders them, shown as radiologists look: this affine is LPS already."""
    dataset = _volumes(tmp_path / "data", fakes)
    store = run(dataset, tmp_path / "store", engine=fakes.fake_engine(batch=4))
    table = store.load()
    keys = list(zip(table.sample_ids.tolist(), table.slices.tolist(), strict=True))
    volumes = [(f"s{i}", at) for i, depth in enumerate((5, 11)) for at in range(depth)]
    assert keys == [*volumes, ("s2", -1), *(("s3", at) for at in range(3)), ("f0", 0), ("f4", 4)]
    voxels = np.asarray(nibabel.load(dataset.samples[1].path).dataobj)
    from dinorad_rt.preprocessing.pipeline import Preprocessor

    alone = Preprocessor(fakes.SPEC)(Study(voxels[:, :, 7].T[None]))
    wanted = fakes.embedding_of(alone[None])["cls"][0]
    np.testing.assert_allclose(table.cls[keys.index(("s1", 7))], wanted, rtol=1e-4)
    (failure,) = store.failures()
    assert (failure.sample_id, failure.slice, failure.path) == ("f9", 9, "")
    assert "no frame of this number" in failure.reason


def test_nan_embeddings_are_refused_by_name(run: Run, fakes: ModuleType, tmp_path: Path) -> None:
    dataset = fakes.png_dataset(tmp_path / "data", count=12)
    Image.new("L", (20, 20), 255).save(dataset.samples[10].path)
    with (
        identifiers.kept(),
        pytest.raises(EngineError, match=r"for 1 of 4 images of a batch: .*-010\.png\."),
    ):
        run(dataset, tmp_path / "store", poison=True)
    store = EmbeddingStore.open(tmp_path / "store")
    assert store.missing_shards() == (1,) and len(store.load(partial=True)) == 8
    assert not list(store.folder.glob(".*"))


def test_a_full_disk_is_named_and_nothing_half_written_stays(
    run: Run, fakes: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    dataset = fakes.png_dataset(tmp_path / "data")
    with monkeypatch.context() as patch:
        patch.setattr(pq.ParquetWriter, "write_table", full)
        with pytest.raises(NoSpaceError, match="No space left while writing shard-000000"):
            run(dataset, tmp_path / "store")
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["provenance.json"]
    assert len(run(dataset, tmp_path / "store").load()) == 22


def test_a_missing_package_ends_the_job(
    run: Run, fakes: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would spoil every file of its kind, and one command mends it."""

    def read(path: Path, *, frame: int | None = None) -> Study:
        raise MissingPackageError("JPEG XL needs the package jxl.", "pip install jxl")

    monkeypatch.setattr("dinorad_rt.embeddings.decode.read_study", read)
    with pytest.raises(MissingPackageError, match="pip install jxl"):
        run(fakes.png_dataset(tmp_path / "data"), tmp_path / "store")


def test_another_question_is_refused_with_its_difference(
    run: Run, fakes: ModuleType, tmp_path: Path
) -> None:
    dataset, store = fakes.png_dataset(tmp_path / "data", count=4), tmp_path / "store"
    run(dataset, store)
    others: list[tuple[str, dict[str, Any]]] = [
        ("another engine", {"engine": fakes.fake_engine("engine-b")}),
        ("another preprocessing", {"spec": replace(fakes.SPEC, antialias=False)}),
        ("another dataset", {"dataset": replace(dataset, fingerprint="f" * 64)}),
    ]
    for match, change in others:
        with pytest.raises(OutputExistsError, match=f"was made with {match} ") as caught:
            run(change.pop("dataset", dataset), store, **change)
        assert sum(name in str(caught.value) for name, _ in others) == 1
        assert "--out" in caught.value.fix
    renamed = tuple(replace(sample, patient="x") for sample in dataset.samples)
    with pytest.raises(OutputExistsError, match="DINORAD_RT_KEY"):
        run(replace(dataset, samples=renamed), store)
    assert len(run(dataset, store).load()) == 4


def test_what_cannot_be_asked(run: Run, fakes: ModuleType, tmp_path: Path) -> None:
    dataset = fakes.png_dataset(tmp_path / "data", count=4)
    with pytest.raises(DataError, match="Part 3 of 3"):
        run(dataset, tmp_path / "a", shard=(3, 3))
    with pytest.raises(EngineError, match="takes 16 px, the preprocessing makes 32 px"):
        run(dataset, tmp_path / "b", spec=replace(fakes.SPEC, image_size=32))
    with pytest.raises(EmptyDataError):
        run(replace(dataset, samples=()), tmp_path / "c")
    assert not any((tmp_path / name).exists() for name in "abc")


def test_backbones_without_patches(run: Run, fakes: ModuleType, tmp_path: Path) -> None:
    dataset = fakes.png_dataset(tmp_path / "data", count=6)
    store = run(dataset, tmp_path / "store", engine=fakes.fake_engine(patches=False))
    assert store.load().patch_mean is None and store.summary()["patch_mean"] == "none"
