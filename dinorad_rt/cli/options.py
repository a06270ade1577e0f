"""Options that several verbs share, each spelled and explained once."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from dinorad_rt.errors import ProtocolError
from dinorad_rt.limits import IMAGE_SIZES, SEEDS
from dinorad_rt.words import verb_of


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
        ".safetensors / .pth file, or the folder of one in shards."
    ),
]
ImageSize: TypeAlias = Annotated[
    int | None,
    typer.Option(
        min=IMAGE_SIZES[0],
        max=IMAGE_SIZES[1],
        help="Input side in pixels. Default: the backbone's own.",
    ),
]
PrecisionChoice: TypeAlias = Annotated[
    Literal["auto", "fp32", "fp16", "bf16", "mixed", "int8"],
    typer.Option(
        "--precision",
        help="Number format of the graph. auto: fp16 on a GPU, fp32 on a CPU. int8: calibrated "
        "on training images (of the data, else --calibration); not of trained runs.",
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
LabelSeparator: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="What stands between several findings in one label, such as '|', or none for one "
        "class per cell. Found out by default."
    ),
]
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
    str | None,
    typer.Option(help="Classes of the masks in the order of their values: background,liver,tumour"),
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
        help="i/n: embed only the i-th of n parts (0-based); also read from Slurm array or "
        "torchrun variables with --shard auto."
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
