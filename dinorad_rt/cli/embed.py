"""`dinorad-rt embed`: images become embeddings in a store of Parquet shards."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Annotated

import typer

from dinorad_rt.cli import options
from dinorad_rt.cli.console import note, print_json, progress_bar, warn
from dinorad_rt.cli.groups import (
    EngineOptions,
    ModelOptions,
    NumberOptions,
    Source,
    check_request,
    engine_request,
    grouped,
)
from dinorad_rt.errors import DinoradError
from dinorad_rt.words import count_of

if TYPE_CHECKING:
    from dinorad_rt.datasets.dataset import Dataset

_SHARD_VARIABLES = (
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"),
    ("RANK", "WORLD_SIZE"),
)


@grouped
def embed(
    *,
    model: ModelOptions,
    source: Source,
    preprocessing: options.Preset = "dinorad",
    numbers: NumberOptions,
    engine: EngineOptions,
    workers: options.Workers = None,
    shard: options.Shard = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Address of a Ray cluster that shares the files (or local): CPU nodes decode, "
            "GPU nodes embed.",
        ),
    ] = None,
    out: options.OutOrCache = None,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Embed images with an engine. Stopped runs go on where they were; bad files become rows.

    Without --data or --dataset generated studies are used. Where not one file can be read, the
    exit code is 2.
    """
    from dinorad_rt.pipeline import embed as run
    from dinorad_rt.pipeline import engine_for
    from dinorad_rt.studies.malloc import keep_freed_memory

    part = parse_shard(shard)
    if shard == "auto":
        take_own_gpu()
    request = engine_request(model, numbers, engine, seed=seed)
    check_request(request)
    keep_freed_memory()
    images = source.open(seed)
    describe_dataset(images)
    preprocessing = source.preprocessing(preprocessing)
    built = engine_for(request, note, calibration=images, preprocessing=preprocessing)
    if built.weights_kind == "random":
        warn("weights: random. These embeddings are for tests; they mean nothing.")
    with progress_bar("embedding") as advance:
        store = run(
            images,
            built,
            preprocessing=preprocessing,
            out=out,
            workers=workers,
            shard=part,
            ray=ray,
            progress=advance,
        )
    failures = store.failures()
    if failures:
        unread = count_of(len(failures), "file")
        warn(f"{unread} could not be read: see failures.parquet in the store")
    if as_json:
        print_json(store.summary())
        return
    from dinorad_rt.reports.table import key_value_table, print_table

    print_table(key_value_table("Embeddings", {k: str(v) for k, v in store.summary().items()}))


def describe_dataset(dataset: Dataset) -> None:
    """Say what was opened: sizes per split, and every decision taken for the user."""
    counts = ", ".join(
        f"{split} {sum(sample.split == split for sample in dataset.samples)}"
        for split in ("train", "val", "test")
    )
    patients = len({sample.patient for sample in dataset.samples})
    note(
        f"{dataset.name}: {count_of(len(dataset.samples), 'image')} ({counts}), "
        f"{count_of(patients, 'patient')}, {dataset.task}, classes {', '.join(dataset.class_names)}"
    )
    for text in dataset.notes:
        (warn if text.split()[0].isupper() and len(text.split()[0]) > 4 else note)(text)


def parse_shard(text: str | None) -> tuple[int, int]:
    """`i/n` → (i, n), 0-based; `auto` reads Slurm's or torchrun's variables; None is (0, 1)."""
    if text is None:
        return 0, 1
    if text == "auto":
        for index, count in _SHARD_VARIABLES:
            if index in os.environ and count in os.environ:
                text = f"{os.environ[index]}/{os.environ[count]}"
                break
        else:
            raise DinoradError(
                "--shard auto found neither Slurm array nor torchrun variables.",
                "Run inside such a job, or write --shard i/n.",
            )
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not int(match[1]) < int(match[2]):
        raise DinoradError(f"--shard {text!r} is not i/n with 0 ≤ i < n.", "Example: --shard 0/4")
    return int(match[1]), int(match[2])


def take_own_gpu() -> None:
    """Of several processes that torchrun starts beside each other, let each see one GPU.

    An engine runs on the first GPU that its process sees, and all would see the same one first.
    """
    from dinorad_rt.machine import driver_gpus

    if "LOCAL_RANK" not in os.environ:
        return
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if seen is None:
        gpus = [str(index) for index in range(len(driver_gpus()))]
    else:
        gpus = [name for name in seen.split(",") if name.strip()]
    if len(gpus) > 1:
        own = gpus[int(os.environ["LOCAL_RANK"]) % len(gpus)]
        os.environ["CUDA_VISIBLE_DEVICES"] = own
        note(f"GPU {own} of {len(gpus)} is this process's own")
