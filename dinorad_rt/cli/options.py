"""Options that several verbs share, each spelled and explained once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, get_type_hints

import typer

from dinorad_rt.cli.console import note, seldom

if TYPE_CHECKING:
    from dinorad_rt.datasets.dataset import Dataset


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


def typed(context: typer.Context) -> list[str]:
    """Names of the parameters that stand on the command line, such as image_size."""
    return [
        name
        for name in context.params
        if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
    ]


def flag_of(name: str) -> str:
    """`image_size` → `--image-size`."""
    return f"--{name.replace('_', '-')}"


@dataclass(frozen=True)
class Source:
    """The options that open images, as they were typed; `with_source` gives them to a verb."""

    data: Data = None
    dataset: DatasetName = None
    root: Root = None
    image_column: ImageColumn = None
    label_column: LabelColumn = None
    patient_column: PatientColumn = None
    split_column: SplitColumn = None
    splits: Splits = None
    keep_identifiers: KeepIdentifiers = False

    @property
    def is_given(self) -> bool:
        """Whether data were named; otherwise they are the phantoms, or none."""
        return self.data is not None or self.dataset is not None

    @property
    def columns(self) -> dict[str, Any]:
        """Columns and splits, as `pipeline.dataset_for` takes them."""
        names = ("image_column", "label_column", "patient_column", "split_column", "splits")
        return {name: getattr(self, name) for name in names}

    def open(self, seed: int, **choices: Any) -> Dataset:
        """The dataset.

        Args:
            seed: of splits that are made.
            choices: further ones of `pipeline.dataset_for`.

        Raises:
            DataError, UnknownNameError: it cannot be opened.
        """
        from dinorad_rt.pipeline import dataset_for

        where = (self.data, self.dataset, self.root)
        return dataset_for(*where, seed=seed, say=seldom(note), **(self.columns | choices))

    def preprocessing(self, preset: str) -> str:
        """The preset, with the study's rule for a dataset of the study, said aloud."""
        from dinorad_rt.preprocessing.presets import preset_for_dataset

        found = preset_for_dataset(preset, self.dataset)
        if found != preset:
            note(f"preprocessing {found}: the study's rule for {self.dataset}")
        return found


NO_SOURCE = Source()


def with_source(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the options of `Source` in place of its parameter `source`."""
    hints = get_type_hints(Source, include_extras=True)
    typed = [
        inspect.Parameter(
            item.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=item.default,
            annotation=hints[item.name],
        )
        for item in fields(Source)
    ]
    own = inspect.signature(verb, eval_str=True)
    parameters: list[inspect.Parameter] = []
    for item in own.parameters.values():
        added = typed if item.name == "source" else [item.replace(kind=item.KEYWORD_ONLY)]
        parameters.extend(added)

    @functools.wraps(verb)
    def call(**given: Any) -> None:
        source = Source(**{item.name: given.pop(item.name) for item in typed})
        verb(**given, source=source)

    call.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {item.name: item.annotation for item in parameters}
    return call
