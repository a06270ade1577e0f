"""`train --protocol segmentation`, and options that belong elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dinorad_rt.cli.segment import parse_rates, parse_triple
from dinorad_rt.cli.verbs import app
from dinorad_rt.errors import ProtocolError
from dinorad_rt.training.segmentation.baselines import network_named
from dinorad_rt.training.segmentation.names import NETWORK_NAMES, VOLUME_NETWORKS
from dinorad_rt.training.segmentation.presets import segmentation_preset

from .conftest import CLASSES, write_volumes

MASKS = ["--protocol", "segmentation", "--model"]


def test_a_network_is_trained_and_judged(tmp_path: Path, cache: Path) -> None:
    folder = write_volumes(tmp_path / "data")
    words = ["train", "--protocol", "segmentation", "--model", "unet", "--width", "4"]
    words += ["--data", str(folder), "--class-names", ",".join(CLASSES), "--image-size", "32"]
    words += ["--epochs", "1", "--out", str(tmp_path / "run"), "--device", "cpu", "--json"]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 0, found.output
    document = json.loads(found.stdout)
    assert document["results"]["class_names"] == list(CLASSES)
    assert document["results"]["settings"]["width"] == 4
    assert (tmp_path / "run" / "cases.parquet").is_file()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--protocol", "segmentation", "--rank", "4"], "--rank"),
        (["--protocol", "lora", "--decoder", "unet", "--views", "2"], "--decoder, --views"),
        (["--protocol", "linear", "--rank", "4", "--dropout", "0.1"], "--rank, --dropout"),
        (["--protocol", "lora", "--layer-decay", "0.5"], "--layer-decay"),
        (["--protocol", "lora", "--model", "unet"], "unet is a network for masks"),
        ([*MASKS, "unet", "--encoder", "frozen", "--decoder", "linear"], "--decoder, --encoder"),
        ([*MASKS, "unet", "--patch", "32,32,32"], "--patch"),
        ([*MASKS, "unet", "--weights", "mine.pth"], "--weights"),
        ([*MASKS, "unet3d", "--image-size", "64"], "--image-size"),
        ([*MASKS, "test_vit", "--width", "4", "--spacing", "1,1,1"], "--width, --spacing"),
        ([*MASKS, "test_vit", "--encoder-lr", "0.1"], "--encoder-lr"),
        ([*MASKS, "test_vit", "--encoder", "frozen", "--views", "2"], "--views"),
    ],
)
def test_options_without_effect_are_refused(words: list[str], told: str) -> None:
    found = CliRunner().invoke(app, ["train", *words])
    assert isinstance(found.exception, ProtocolError) and told in found.exception.problem


def test_volume_networks_are_those_of_three_dimensions() -> None:
    named = [name for name in NETWORK_NAMES if network_named(name).dims == 3]
    assert named == list(VOLUME_NETWORKS)


def test_three_numbers_or_an_error() -> None:
    assert parse_triple("32,48,64", "--patch", int) == (32, 48, 64)
    assert parse_triple(None, "--patch", int) is None
    for text in ("32", "1,2,x", "1.5,2,3"):
        with pytest.raises(ProtocolError, match="--patch"):
            parse_triple(text, "--patch", int)


def test_lists_of_rates_or_an_error() -> None:
    assert parse_rates("1e-4,0.1") == (1e-4, 0.1) and parse_rates(None) is None
    with pytest.raises(ProtocolError, match="no list of numbers"):
        parse_rates("1e-4;1e-3")


def test_presets_are_the_studys_and_ours() -> None:
    study = segmentation_preset("study")
    assert study.settings.image_size == 448 and study.settings.loss == "dice"
    assert (study.loop.optimizer, study.loop.momentum, study.loop.weight_decay) == ("sgd", 0.9, 0.0)
    assert study.settings.decoder == "unet-as-coded" and study.settings.select == "dice_pooled"
    assert study.settings.learning_rates == (1e-4, 5e-4, 1e-3, 5e-3, 1e-2, 5e-2, 1e-1)
    assert study.changed(model="unet").settings.learning_rates == ()
    assert study.changed(lr=1e-3).settings.learning_rates == ()
    changed = segmentation_preset("modern").changed(lr=0.1, decoder="linear", views=None)
    assert (changed.loop.lr, changed.settings.decoder, changed.settings.views) == (0.1, "linear", 1)
