"""Groups of options that go together; `grouped` gives a verb each option of its groups."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from dinorad_rt.cli import options
from dinorad_rt.cli.console import note, seldom

if TYPE_CHECKING:
    from dinorad_rt.datasets.dataset import Dataset
    from dinorad_rt.pipeline import EngineRequest
    from dinorad_rt.training.evaluate import RunRequest


@dataclass(frozen=True)
class Place:
    """Where images lie: the user's own, or a registered dataset."""

    data: options.Data = None
    dataset: options.DatasetName = None
    root: options.Root = None


@dataclass(frozen=True)
class Reading:
    """How a table is read, and what may be said of it."""

    image_column: options.ImageColumn = None
    label_column: options.LabelColumn = None
    label_separator: options.LabelSeparator = None
    patient_column: options.PatientColumn = None
    split_column: options.SplitColumn = None
    splits: options.Splits = None
    keep_identifiers: options.KeepIdentifiers = False


@dataclass(frozen=True)
class MaskReading(Reading):
    """The same of a table that may have masks."""

    mask_column: options.MaskColumn = None


@dataclass(frozen=True)
class Source(Reading, Place):
    """What opens images: where they lie, and how a table is read."""

    @property
    def is_given(self) -> bool:
        """Whether data were named; otherwise they are the phantoms, or none."""
        return self.data is not None or self.dataset is not None

    def open(self, seed: int, **choices: Any) -> Dataset:
        """The dataset.

        Args:
            seed: of splits that are made.
            choices: further ones of `pipeline.dataset_for`.

        Raises:
            DataError, UnknownNameError: it cannot be opened.
        """
        from dinorad_rt.pipeline import dataset_for

        own = vars(self) | choices
        del own["keep_identifiers"]  # took effect when it was parsed
        return dataset_for(**own, seed=seed, say=seldom(note))

    def preprocessing(self, preset: str) -> str:
        """The preset, with the study's rule for a dataset of the study, said aloud."""
        from dinorad_rt.preprocessing.presets import preset_for_dataset

        found = preset_for_dataset(preset, self.dataset)
        if found != preset:
            note(f"preprocessing {found}: the study's rule for {self.dataset}")
        return found


@dataclass(frozen=True)
class MaskSource(MaskReading, Source):
    """The same of data that may have masks."""

    def open_for_run(self, run: Path, seed: int) -> Dataset:
        """The dataset as a trained run reads it: masks, for a segmenter.

        Raises:
            RunError: no run.
            DataError, UnknownNameError: the data cannot be opened.
        """
        from dinorad_rt.datasets.mask_classes import choices_of
        from dinorad_rt.training.run_folder import read_run

        facts = read_run(run)
        if facts.get("kind") != "segmenter":
            return self.open(seed)
        return self.open(seed, **choices_of(facts["data"]))


@dataclass(frozen=True)
class ModelOptions:
    """Which backbone."""

    model: options.Model = "vits14"
    weights: options.Weights = "hub"


@dataclass(frozen=True)
class NumberOptions:
    """What decides its numbers."""

    image_size: options.ImageSize = None
    precision: options.PrecisionChoice = "auto"


@dataclass(frozen=True)
class GraphOptions(NumberOptions):
    """What decides its numbers, with the choices of single blocks and of INT8."""

    keep_fp32: options.KeepFp32 = None
    calibration: options.Calibration = None


@dataclass(frozen=True)
class EngineOptions:
    """What runs it."""

    backend: options.Backend = "auto"
    profile: options.ProfileName = "default"


def engine_request(
    model: ModelOptions, *others: NumberOptions | EngineOptions, **choices: Any
) -> EngineRequest:
    """The engine that was asked for.

    Args:
        model, others: the groups that the verb has; what it has not keeps its default.
        choices: further fields of `EngineRequest`.
    """
    from dinorad_rt.pipeline import EngineRequest

    wanted = vars(model).copy()
    for group in others:
        wanted |= vars(group)
    if "keep_fp32" in wanted:
        wanted["keep_fp32"] = options.names(wanted["keep_fp32"])
    return EngineRequest(**wanted, **choices)


def check_request(request: EngineRequest) -> None:
    """Refuse what is named and not there, before images are indexed and a graph is made.

    Raises:
        UnknownNameError: no such model, backend or profile.
        WeightsError: no such file of weights.
        BackendMissingError: the backend cannot run here.
    """
    from dinorad_rt.backbones.locate import NAMED_WEIGHTS, find_weights
    from dinorad_rt.backbones.registry import get_spec

    get_spec(request.model)
    if request.weights not in NAMED_WEIGHTS:
        find_weights(Path(request.weights).expanduser())
    check_engine(EngineOptions(request.backend, request.profile))


def check_engine(engine: EngineOptions) -> None:
    """The same of what runs an engine.

    Raises:
        UnknownNameError, BackendMissingError: as of `check_request`.
        EngineError: a profile file that cannot be used.
    """
    from dinorad_rt.engines.profile import load_profile
    from dinorad_rt.runners.registry import require_backend

    load_profile(engine.profile)
    if engine.backend != "auto":
        require_backend(engine.backend)


def run_request(
    run: Path, model: ModelOptions, numbers: NumberOptions, engine: EngineOptions
) -> RunRequest:
    """The engine of a trained run that was asked for; its model and size are the run's own."""
    from dinorad_rt.training.evaluate import RunRequest

    return RunRequest(run, model.weights, numbers.precision, **vars(engine))


def grouped(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the options of each group in place of the parameter that takes the group.

    A parameter takes a group if a dataclass is its annotation. Its default, an instance, tells the
    defaults of the options; without one they are those of the group.
    """
    own = inspect.signature(verb, eval_str=True)
    groups: dict[str, type] = {}
    parameters: list[inspect.Parameter] = []
    for item in own.parameters.values():
        if isinstance(item.annotation, type) and is_dataclass(item.annotation):
            groups[item.name] = item.annotation
            parameters += _options_of(item)
        else:
            parameters.append(item.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(verb)
    def call(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{item.name: given.pop(item.name) for item in fields(group)})
        verb(**given)

    call.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {item.name: item.annotation for item in parameters}
    return call


def _options_of(parameter: inspect.Parameter) -> list[inspect.Parameter]:
    group = parameter.annotation
    chosen = group() if parameter.default is parameter.empty else parameter.default
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            item.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=getattr(chosen, item.name),
            annotation=hints[item.name],
        )
        for item in fields(group)
    ]
