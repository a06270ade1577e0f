"""Options that several verbs share, each spelled and explained once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer


def _keep_identifiers(wanted: bool) -> bool:
    """Decide whether this run of the program names files and patients."""
    from dinorad_rt import identifiers

    identifiers.keep(wanted)
    return wanted


Model: TypeAlias = Annotated[
    str, typer.Option("--model", "-m", help="Backbone: a short name (vitl14) or any timm name.")
]
Weights: TypeAlias = Annotated[
    str,
    typer.Option(
        help="hub, random, auto (hub if reachable, else random, said aloud), or a "
        ".safetensors / .pth file."
    ),
]
ImageSize: TypeAlias = Annotated[
    int | None,
    typer.Option(min=14, help="Input side in pixels. Default: the backbone's own."),
]
PrecisionChoice: TypeAlias = Annotated[
    Literal["auto", "fp32", "fp16", "bf16", "mixed", "int8"],
    typer.Option(
        "--precision",
        help="Number format of the graph. auto: fp16 on a GPU, fp32 on a CPU. int8: "
        "calibrated on training images (--calibration).",
    ),
]
Checkpoint: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        help="A run folder of `dinorad-rt train`, instead of --model: its tuned backbone and head. "
        "--weights is then the file below it, if it is not found by itself."
    ),
]
KeepFp32: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--keep-fp32",
        help="Blocks that stay in FP32, such as blocks.3,blocks.4. mixed: just these. int8: auto "
        "chooses them.",
    ),
]
Calibration: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        help="int8: images whose train split it is calibrated on: class folders, a folder with "
        "labels.csv, or a CSV."
    ),
]
Backend: TypeAlias = Annotated[
    str,
    typer.Option(help="What runs the engine: auto (the fastest here), or one of `list backends`."),
]
ProfileName: TypeAlias = Annotated[
    str, typer.Option("--profile", help="Batch, streams and threads: one of `list profiles`.")
]
Data: TypeAlias = Annotated[
    Path | None,
    typer.Option(help="Your images: class folders, a folder with labels.csv, or a CSV."),
]
DatasetName: TypeAlias = Annotated[
    str | None, typer.Option("--dataset", help="A registered dataset: one of `list datasets`.")
]
Root: TypeAlias = Annotated[Path | None, typer.Option(help="Where the dataset's files lie.")]
ImageColumn: TypeAlias = Annotated[str | None, typer.Option(help="CSV column of image paths.")]
LabelColumn: TypeAlias = Annotated[str | None, typer.Option(help="CSV column of labels.")]
PatientColumn: TypeAlias = Annotated[
    str | None, typer.Option(help="CSV column that groups images of one patient.")
]
SplitColumn: TypeAlias = Annotated[
    str | None, typer.Option(help="CSV column with train, val or test.")
]
MaskColumn: TypeAlias = Annotated[
    str | None, typer.Option(help="CSV column of masks; a,b,c for one file per class.")
]
ClassNames: TypeAlias = Annotated[
    str | None, typer.Option(help="Classes of the masks, background first: background,liver,...")
]
DataTask: TypeAlias = Annotated[
    Literal["auto", "classification", "segmentation"],
    typer.Option("--task", help="What is read of data that has both classes and masks."),
]
Splits: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="A split list to follow (folder of train, val, test lists, CSV, JSON), or `patient` "
        "for new splits by patient."
    ),
]
KeepIdentifiers: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--keep-identifiers",
        callback=_keep_identifiers,
        help="Name files and patients in messages and lists. Off: nothing identifying is written.",
    ),
]
Preset: TypeAlias = Annotated[
    str,
    typer.Option(
        "--preprocessing",
        help="dinorad: sound for radiology. model: as the backbone was trained. study: as the "
        "paper's code does. Options after a colon: dinorad:lung or dinorad:body (`list presets`).",
    ),
]
Out: TypeAlias = Annotated[Path | None, typer.Option(help="Output folder.")]
Seed: TypeAlias = Annotated[
    int, typer.Option(min=0, help="Seed of random weights, splits, intervals.")
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Workers: TypeAlias = Annotated[
    int | None, typer.Option(min=0, help="Decoding workers. Default: one per core.")
]
Shard: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="i/n: embed only the i-th of n parts (0-based); also read from Slurm array or "
        "torchrun variables with --shard auto."
    ),
]


def names(text: str | None) -> tuple[str, ...]:
    """`blocks.3,blocks.4` → ("blocks.3", "blocks.4"); None is empty."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())
