"""Runs are told apart by what differs, in words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dinorad_rt.reports.run_names import labelled

from .fake_runs import fake_results


def names(*methods: dict[str, Any]) -> list[str]:
    """Names of trained runs that differ in their method alone."""
    plain = fake_results()
    trained = [
        replace(plain, provenance=plain.provenance | {"training": {"method": method}})
        for method in methods
    ]
    return [run.name for run in labelled(trained)]


def test_methods_of_training_are_told_apart_by_their_protocol() -> None:
    lora = {"protocol": "lora", "adapter": "lora", "rank": 48, "head_lr_scale": 999.9999999}
    assert names({"protocol": "bitfit", "head_lr_scale": 1.0}, lora) == [
        "vits14 bitfit",
        "vits14 lora",
    ]


def test_one_protocol_is_told_apart_by_what_differs_within() -> None:
    found = names(
        {"protocol": "lora", "rank": 8, "alpha": 16.0, "layer_decay": None},
        {"protocol": "lora", "rank": 48, "alpha": 16.0, "layer_decay": None},
    )
    assert found == ["vits14 rank 8", "vits14 rank 48"]


def test_decoders_are_named() -> None:
    found = names({"decoder": "unet", "encoder": "cached"}, {"decoder": "linear"})
    assert found == ["vits14 unet", "vits14 linear"]


def test_random_weights_are_said_once() -> None:
    found = []
    for kind, source, sha in (
        ("random", "random", "a1"),
        ("random", "random, seed 0", "b2"),
        ("file", "model.safetensors", "c3"),
    ):
        plain = fake_results(weights=kind)
        weights = {"kind": kind, "source": source, "sha256": sha}
        engine = plain.provenance["engine"] | {"weights": weights}
        found.append(replace(plain, provenance=plain.provenance | {"engine": engine}))
    assert [run.name for run in labelled(found)] == [
        "vits14 (random weights) a1",
        "vits14 (random weights) seed 0 b2",
        "vits14",
    ]
