"""Options that several verbs share, each spelled and explained once."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from dinorad_rt.cli import complete
from dinorad_rt.errors import ProtocolError
from dinorad_rt.limits import IMAGE_SIZES, SEEDS
from dinorad_rt.words import verb_of


def _keep_identifiers(wanted: bool) -> bool:
    """Decide whether this run of the program names files and patients."""
    from dinorad_rt import identifiers

    identifiers.keep(wanted)
    return wanted


DATA, TABLE, ENGINE = "Data", "Tables and splits", "Engine"
"""Panels of the help."""

Model: TypeAlias = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        help="Backbone: a short name (vitl14) or any timm name.",
        autocompletion=complete.models,
    ),
]
Weights: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="WEIGHTS",
        help="hub, a .safetensors or .pth file, a folder of shards, random, or auto: hub if it "
        "can be reached, else random, said aloud.",
    ),
]
ImageSize: TypeAlias = Annotated[
    int | None,
    typer.Option(
        metavar="PIXELS",
        min=IMAGE_SIZES[0],
        max=IMAGE_SIZES[1],
        help="Side of the input. Default: the backbone's own.",
        rich_help_panel=ENGINE,
    ),
]
PrecisionChoice: TypeAlias = Annotated[
    Literal["auto", "fp32", "fp16", "bf16", "mixed", "int8"],
    typer.Option(
        "--precision",
        metavar="TYPE",
        help="fp32, fp16, bf16, mixed, int8, or auto: fp16 on a GPU, fp32 on a CPU. int8 is "
        "calibrated on training images, and not for trained runs.",
        rich_help_panel=ENGINE,
    ),
]
Checkpoint: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="RUN",
        help="A run folder of `dinorad-rt train`, instead of --model: its tuned backbone and head. "
        "--weights is then the file below it, if it is not found by itself.",
    ),
]
KeepFp32: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--keep-fp32",
        metavar="BLOCKS",
        help="Blocks that stay in FP32, such as blocks.3,blocks.4. mixed: just these. int8: auto "
        "chooses them.",
        rich_help_panel=ENGINE,
    ),
]
Calibration: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        help="int8: images whose train split it is calibrated on: class folders, a folder with "
        "labels.csv, or a CSV.",
        rich_help_panel=ENGINE,
    ),
]
Backend: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="What runs the engine: auto (the fastest here), or one of `list backends`.",
        autocompletion=complete.backends,
        rich_help_panel=ENGINE,
    ),
]
ProfileName: TypeAlias = Annotated[
    str,
    typer.Option(
        "--profile",
        metavar="NAME",
        help="Batch, streams and threads: one of `list profiles`, or a TOML file.",
        autocompletion=complete.profiles,
        rich_help_panel=ENGINE,
    ),
]
Data: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        help="Your images: class folders, a folder with labels.csv, or a CSV.",
        rich_help_panel=DATA,
    ),
]
DatasetName: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        metavar="NAME",
        help="A registered dataset: one of `list datasets`.",
        autocompletion=complete.datasets,
        rich_help_panel=DATA,
    ),
]
Root: TypeAlias = Annotated[
    Path | None, typer.Option(help="Where the dataset's files lie.", rich_help_panel=DATA)
]
ImageColumn: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="CSV column of image paths.", rich_help_panel=TABLE),
]
LabelColumn: TypeAlias = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="CSV column of labels.", rich_help_panel=TABLE)
]
LabelSeparator: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="SIGN",
        help="What stands between several findings in one label, such as '|', or none for one "
        "class per cell. Found out by default.",
        rich_help_panel=TABLE,
    ),
]
PatientColumn: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="CSV column that groups images of one patient.",
        rich_help_panel=TABLE,
    ),
]
SplitColumn: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN", help="CSV column with train, val or test.", rich_help_panel=TABLE
    ),
]
MaskColumn: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="CSV column of masks; a,b,c for one per class; NAME:rows for runs (RLE) by rows.",
        rich_help_panel=TABLE,
    ),
]
ClassNames: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES",
        help="Classes of the masks in the order of their values: background,liver,tumour",
        rich_help_panel=TABLE,
    ),
]
DataTask: TypeAlias = Annotated[
    Literal["auto", "classification", "segmentation"],
    typer.Option(
        "--task",
        metavar="TASK",
        help="What is read of data that has both classes and masks: classification or "
        "segmentation.",
        rich_help_panel=DATA,
    ),
]
Splits: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        help="A split list to follow (folder of train, val, test lists, CSV, JSON), or `patient` "
        "for new splits by patient.",
        rich_help_panel=TABLE,
    ),
]
KeepIdentifiers: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--keep-identifiers",
        callback=_keep_identifiers,
        help="Name files and patients in messages and lists. Off: nothing identifying is written.",
        rich_help_panel=DATA,
    ),
]
Preset: TypeAlias = Annotated[
    str,
    typer.Option(
        "--preprocessing",
        metavar="PRESET",
        help="dinorad: sound for radiology. model: as the backbone was trained. study: as the "
        "paper's code does. Options after a colon: dinorad:lung or dinorad:body (`list presets`).",
        rich_help_panel=DATA,
    ),
]
Out: TypeAlias = Annotated[
    Path | None, typer.Option(help="Output folder. Default: one of its own in runs.")
]
OutOrCache: TypeAlias = Annotated[
    Path | None, typer.Option("--out", help="Output folder. Default: in the cache.")
]
Seed: TypeAlias = Annotated[
    int,
    typer.Option(min=SEEDS[0], max=SEEDS[1], help="Seed of random weights, splits, intervals."),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Workers: TypeAlias = Annotated[
    int | None, typer.Option(min=0, help="Decoding workers. Default: one per core.")
]
Shard: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="I/N",
        help="Embed only part i of n, from 0. auto: as Slurm's array or torchrun's variables say.",
    ),
]


def names(text: str | None) -> tuple[str, ...]:
    """`blocks.3,blocks.4` → ("blocks.3", "blocks.4"); None is empty."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def numbers(option: str, text: str, *, example: str) -> tuple[int, ...]:
    """`1,8,32` → (1, 8, 32); `example` is shown to who typed something else.

    Raises:
        ProtocolError: anything but positive whole numbers.
    """
    words = names(text)
    if not words or not all(word.isdecimal() and int(word) > 0 for word in words):
        raise ProtocolError(
            f"{option} {text!r} is not a list of positive whole numbers.",
            f"Example: {option} {example}",
        )
    return tuple(map(int, words))


def some_names(option: str, text: str) -> tuple[str, ...]:
    """The same as `names`, of an option that needs one.

    Raises:
        ProtocolError: there is none.
    """
    found = names(text)
    if not found:
        raise ProtocolError(f"{option} {text!r} names nothing.", "Give one, or leave it away.")
    return found


def typed(context: typer.Context) -> list[str]:
    """Names of the parameters that stand on the command line, such as image_size."""
    return [
        name
        for name in context.params
        if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
    ]


def flags_of(context: typer.Context, names: Iterable[str]) -> str:
    """Parameters of the verb as they are typed: image_size, as_json → --image-size, --json."""
    spelled = {item.name: item.opts[0] for item in context.command.params}
    return ", ".join(spelled[name] for name in names)


def refuse_mixed(
    context: typer.Context, *, of_model: Collection[str], of_run: Collection[str]
) -> None:
    """Refuse options that would do nothing, in a verb on a backbone or on a trained run.

    Args:
        context: of the verb, which has the option --checkpoint.
        of_model: parameters that a run decides.
        of_run: parameters that only a run has a use for.

    Raises:
        ProtocolError: one of them was typed beside --checkpoint, or without it.
    """
    is_run = context.params["checkpoint"] is not None
    foreign = [name for name in typed(context) if name in (of_model if is_run else of_run)]
    if not foreign:
        return
    flags, go = flags_of(context, foreign), verb_of(len(foreign), "goes", "go")
    if is_run:
        raise ProtocolError(
            f"{flags} {go} with --model; a run names its own.", "Omit it, or omit --checkpoint."
        )
    raise ProtocolError(f"{flags} {go} with --checkpoint.", "Omit it, or add --checkpoint RUN.")
