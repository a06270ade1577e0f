"""Array stores: whole samples or none, failures told, tokens that fit float16 or an error."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dinorad_rt.datasets.dataset import Dataset, Sample
from dinorad_rt.embeddings.loader import Batch, Row
from dinorad_rt.errors import EmptyDataError, EngineError, MaskError, ProtocolError
from dinorad_rt.preprocessing.spec import PreprocessSpec
from dinorad_rt.training.segmentation.arrays import ArrayStore, check_lengths, usable
from dinorad_rt.training.segmentation.fill import (
    _TokenSink,
    check_dense,
    fill_greys,
    fill_masks,
    half_tokens,
    question_of,
)

SPEC = PreprocessSpec(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def sample(name: str) -> Sample:
    return Sample(name, Path(name), name, "train", ())


def engine(**outputs: tuple[int, ...]) -> Any:
    return SimpleNamespace(model="x", outputs=outputs)


def batch(*rows: Row) -> Batch:
    return Batch(np.empty((0, 3, 1, 1), np.float32), rows)


def test_samples_are_written_whole_across_batches_and_failures_kept_out(cache: Path) -> None:
    store = ArrayStore.open({"test": "sink"})
    samples = [sample(name) for name in "abc"]
    done: list[int] = []
    sink = _TokenSink(store, samples, 2, lambda at, _: done.append(at))
    tokens = np.arange(3 * 5 * 4 * 2, dtype=np.float32).reshape(3, 5, 4, 2)
    parts = [Row(0, None, 0, last=False), Row(0, None, 1, last=True), Row(1, None, 0, last=False)]
    sink.take(batch(*parts), {"patch_tokens": tokens})
    bad = Row(1, None, 1, reason="torn", last=True)
    sink.take(batch(bad), None)
    sink.take(batch(Row(2, None, None)), {"patch_tokens": tokens[2:]})
    np.testing.assert_array_equal(store.read("a"), tokens[:2, -2:])
    assert store.read("a").dtype == np.float16
    np.testing.assert_array_equal(store.read("c")[0], tokens[2, -2:])
    assert store.failures == {"b": "torn"} and done == [1, 2, 3]
    assert [s.sample_id for s in store.missing(samples)] == ["b"]
    assert usable(samples, store, what="train") == [samples[0], samples[2]]
    with pytest.raises(EmptyDataError, match="None of the 1 train images"):
        usable(samples[1:2], store, what="train")


def test_masks_of_another_length_are_refused(cache: Path) -> None:
    tokens, masks = (ArrayStore.open({"test": name}) for name in ("t", "m"))
    for name, slices in (("a", 3), ("b", 2)):
        tokens.write(name, np.zeros((3, 1)))
        masks.write(name, np.zeros((slices, 1)))
    check_lengths([sample("a")], tokens, masks)
    with pytest.raises(MaskError, match=r"1 of 2 images .* \(such as 3 and 2\)"):
        check_lengths([sample("a"), sample("b")], tokens, masks)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])
def test_tokens_beyond_float16_are_an_error(value: float) -> None:
    tokens = np.full((1, 5, 4, 2), value, np.float32)
    tokens[:, :3] = 1.0
    assert half_tokens(tokens[:, :3], 2).shape == (1, 2, 4, 2)
    with pytest.raises(EngineError, match="too large for float16"):
        half_tokens(tokens, 2)


def test_engines_without_enough_tokens_are_refused() -> None:
    check_dense(engine(cls=(4, 8), patch_tokens=(5, 16, 8)), 5)
    with pytest.raises(ProtocolError, match="no patch_tokens"):
        check_dense(engine(cls=(1, 8)), 1)
    with pytest.raises(ProtocolError, match="the last 5 blocks; x gives 3"):
        check_dense(engine(patch_tokens=(3, 16, 8)), 5)


def test_questions_tell_apart_what_decides_the_arrays(volumes: Dataset) -> None:
    asked = question_of("tokens", volumes, SPEC, engine="e", blocks=5)
    others = [
        question_of("masks", volumes, SPEC, engine="e", blocks=5),
        question_of("tokens", volumes, SPEC, engine="f", blocks=5),
        question_of(
            "tokens", volumes, dataclasses.replace(SPEC, resize="pad"), engine="e", blocks=5
        ),
        question_of("tokens", dataclasses.replace(volumes, fingerprint="x"), SPEC, engine="e"),
    ]
    folders = {ArrayStore.open(question).folder for question in (asked, asked, *others)}
    assert len(folders) == 5


def test_greys_are_the_pixels_before_normalisation(volumes: Dataset) -> None:
    from dinorad_rt.preprocessing.pipeline import Preprocessor
    from dinorad_rt.studies.read import read_study

    windows = ((60.0, 100.0), (100.0, 200.0), (180.0, 60.0))
    for spec, channels in ((SPEC, 1), (dataclasses.replace(SPEC, windows=windows), 3)):
        if channels == 3:
            spec = dataclasses.replace(spec, intensity="window")
        store = ArrayStore.open(question_of("greys", volumes, spec))
        masks = ArrayStore.open(question_of("masks", volumes, spec))
        fill_greys(store, volumes.samples[:1], spec, workers=1)
        fill_masks(masks, volumes.samples[:1], spec, 3)
        ident = volumes.samples[0].sample_id
        study = read_study(volumes.samples[0].path).displayed()
        expected = np.stack([Preprocessor(spec)(study.slice(at)) for at in range(study.num_slices)])
        found = np.broadcast_to(store.read(ident).astype(np.float32), expected.shape)
        assert store.read(ident).shape == (study.num_slices, channels, 32, 32)
        np.testing.assert_allclose((found - 0.5) / 0.5, expected, atol=2e-3)
        assert masks.read(ident).shape == (study.num_slices, 32, 32)
