"""A Ray cluster of one machine writes the store that the machine writes alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from dinorad_rt.errors import EngineError, MissingPackageError

pytestmark = [pytest.mark.filterwarnings("ignore")]  # of Ray's own dependencies


def engine_of():
    import dinorad_rt as dr

    return dr.build_engine("deit_tiny_patch16_224", weights="random", backend="pytorch")


@pytest.mark.slow
def test_the_store_is_the_same_to_the_byte(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    import dinorad_rt as dr
    from dinorad_rt.phantoms import write_phantoms

    root = write_phantoms(tmp_path / "data", patients=8, image_size=64)
    next((root / "xray").rglob("*.dcm")).write_bytes(b"no image any more")
    dataset, engine = dr.open_dataset(root), engine_of()
    seen: list[tuple[int, int]] = []
    stores = [
        dr.embed(dataset, engine, out=tmp_path / "alone", shard_rows=8),
        dr.embed(
            dataset,
            engine,
            out=tmp_path / "ray",
            shard_rows=8,
            ray="local",
            progress=lambda done, total: seen.append((done, total)),
        ),
    ]
    assert len(stores[0].failures()) == 1
    files = sorted(path.name for path in (tmp_path / "alone").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "ray").iterdir())
    for name in files:
        assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "ray" / name).read_bytes()
    assert seen[-1][0] == seen[-1][1] == len(dataset.samples)


def test_without_ray_or_a_cluster_the_way_out_is_named(
    tmp_path: Path, fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dinorad_rt.embeddings import cluster
    from dinorad_rt.embeddings.embed import embed

    dataset = fakes.png_dataset(tmp_path / "data", count=4)

    def missing(module: str, purpose: str):
        raise MissingPackageError(f"{purpose} needs ray", "pip install 'dinorad-rt[ray]'")

    monkeypatch.setattr(cluster, "require", missing)
    with pytest.raises(MissingPackageError, match="ray"):
        embed(dataset, fakes.fake_engine(), fakes.SPEC, tmp_path / "store", ray="local")

    class NoCluster:
        @staticmethod
        def is_initialized() -> bool:
            return False

        @staticmethod
        def init(**_: object) -> None:
            raise ConnectionError("nobody answers")

    monkeypatch.setattr(cluster, "require", lambda *_: NoCluster)
    with pytest.raises(EngineError, match=r"10\.0\.0\.1.*nobody answers"):
        embed(dataset, fakes.fake_engine(), fakes.SPEC, tmp_path / "s2", ray="10.0.0.1:6379")
