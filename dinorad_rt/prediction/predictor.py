"""`Predictor`: a bundle behind a function, for programs that answer image by image.

`predict` is for folders: it writes tables and files and can be interrupted. This keeps the engine
open and writes nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np

from dinorad_rt.embeddings.decode import Bad
from dinorad_rt.engines.build import open_runner
from dinorad_rt.errors import DataError, EngineError
from dinorad_rt.machine import usable_cores
from dinorad_rt.pipeline import build_engine
from dinorad_rt.prediction.bundle import Bundle
from dinorad_rt.prediction.classify import classify, decided, probabilities_of
from dinorad_rt.prediction.inputs import Item, ahead, find_items
from dinorad_rt.prediction.segment import segment, volumes_ml
from dinorad_rt.progress import Say, silent
from dinorad_rt.studies.study import Study
from dinorad_rt.training.modalities import other_modalities

if TYPE_CHECKING:
    from dinorad_rt.runners.base import AbstractRunner

_IN_MEMORY = Item("", "", (Path("a study in memory"),))


@dataclass(frozen=True)
class Prediction:
    """The answer for one series, volume or image.

    Attributes:
        name: of its first file, relative to the path that was asked for: an identifier. Empty for
            a study in memory.
        probabilities: class → calibrated probability; empty for masks.
        predicted: the class, or the labels that were found, by the bundle's thresholds; empty for
            masks.
        mask: (slices, height, width) uint8 class indices on the study's own grid; None for classes.
        volumes_ml: class → millilitres, NaN where the file tells no spacing; empty for classes.
        slices: that the answer rests on.
        study: the pixels and geometry that were read; None where they could not be.
        strange: what to know of an image of another modality than the training's; else empty.
        reason: why there is no answer; empty where there is one.
    """

    name: str
    probabilities: Mapping[str, float]
    predicted: tuple[str, ...] = ()
    mask: np.ndarray | None = None
    volumes_ml: Mapping[str, float] | None = None
    slices: int = 0
    study: Study | None = None
    strange: str = ""
    reason: str = ""


class Predictor:
    """A bundle with its engine, open as long as the `with` block.

        with dr.Predictor("BUNDLE") as predictor:
            answer = predictor.answer("scan.dcm")
            print(answer.predicted, answer.probabilities)

    Threads may share one: their calls take turns. Processes open one each. Not for clinical use.

    Attributes:
        bundle: classes, preprocessing, calibration, thresholds.
        engine: that answers; built on first use of a bundle on this machine.
    """

    def __init__(
        self,
        bundle: Bundle | str | Path,
        *,
        backend: str = "auto",
        profile: str = "latency",
        say: Say = silent,
    ) -> None:
        """Read the bundle and get its engine.

        Args:
            bundle: a folder of `dinorad-rt bundle`.
            backend: what runs the engine; auto for the fastest here.
            profile: batch, streams and threads: latency is one image per call; for volumes and
                folders take default or throughput.
            say: told of decisions, such as `print`.

        Raises:
            BundleError: no bundle, or a file of it was changed.
            EngineError, ParityError: no engine of this bundle can be had here.
        """
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        self.engine = build_engine(self.bundle.graph, backend=backend, profile=profile, say=say)
        self._turn = RLock()
        self._opened: ExitStack | None = None
        self._runner: AbstractRunner | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._runner = stack.enter_context(open_runner(self.engine))
            self._opened = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        opened, self._opened, self._runner = self._opened, None, None
        if opened is not None:
            opened.__exit__(kind, error, trace)

    def answer(self, image: str | Path | Study) -> Prediction:
        """The answer for one image, volume or series.

        Args:
            image: a file, the folder of one series, or a study from `read_study`.

        Raises:
            EmptyDataError: the path holds no image.
            DataError: it holds several, or the one cannot be read.
            EngineError: used outside `with`, or the engine gave no numbers.
        """
        self._check_open()
        if isinstance(image, Study):
            items: tuple[tuple[Item, Study | Bad], ...] = ((_IN_MEMORY, image),)
        else:
            found = find_items(Path(image))
            if len(found) > 1:
                raise DataError(
                    f"{image} holds {len(found)} series, volumes or images; answer() takes one.",
                    "Ask for one of them, or take answers(), which gives one for each.",
                )
            items = ((found[0], found[0].read()),)
        with self._turn:
            (answer,) = self._answers(iter(items))
        if answer.reason:
            raise DataError(f"No answer for {answer.name or 'the study'}: {answer.reason}")
        return answer

    def answers(self, path: str | Path, *, workers: int | None = None) -> Iterator[Prediction]:
        """One answer for every series, volume and image under a path, in the order of their names.

        What cannot be read is an answer with a reason. Until the last one is taken, or the
        iterator is closed, other threads wait.

        Args:
            path: a file, a folder, or a DICOMDIR.
            workers: threads that read ahead; None for every usable core.

        Raises:
            EmptyDataError: there is no image.
            EngineError: used outside `with`, or the engine gave no numbers.
        """
        self._check_open()
        return self._stream(find_items(Path(path)), workers or usable_cores())

    def _stream(self, items: Sequence[Item], workers: int) -> Iterator[Prediction]:
        studies = ahead(Item.read, items, workers=workers, limit=max(2, 2 * workers))
        with self._turn, closing(studies):  # type: ignore[type-var]
            yield from self._answers(studies)

    def _answers(self, studies: Iterator[tuple[Item, Study | Bad]]) -> Iterator[Prediction]:
        runner = self._check_open()
        if self.bundle.kind == "classification":
            return self._classified(runner, studies)
        return (self._segmented(runner, *pair) for pair in studies)

    def _classified(
        self, runner: AbstractRunner, studies: Iterator[tuple[Item, Study | Bad]]
    ) -> Iterator[Prediction]:
        flight: deque[Study | Bad] = deque()  # answers come in the order of the items

        def noted() -> Iterator[tuple[Item, Study | Bad]]:
            for item, study in studies:
                flight.append(study)
                yield item, study

        for item, answer in classify(self.bundle, runner, noted()):
            study = flight.popleft()
            read = None if isinstance(study, Bad) else study
            if answer.reason:
                yield Prediction(item.name, {}, study=read, reason=answer.reason)
                continue
            shares = probabilities_of(self.bundle, answer.values)
            predicted = decided(self.bundle, list(shares.values()))
            yield Prediction(
                item.name,
                shares,
                predicted,
                slices=answer.slices,
                study=read,
                strange=self._strange(read),
            )

    def _segmented(self, runner: AbstractRunner, item: Item, study: Study | Bad) -> Prediction:
        if isinstance(study, Bad):
            return Prediction(item.name, {}, reason=study.reason)
        mask = segment(self.bundle, runner, item, study)
        if isinstance(mask, Bad):
            return Prediction(item.name, {}, study=study, reason=mask.reason)
        names = self.bundle.class_names
        volumes = map(float, volumes_ml(mask, study, len(names)))
        return Prediction(
            item.name,
            {},
            mask=mask,
            volumes_ml=dict(zip(names[1:], volumes, strict=True)),
            slices=len(mask),
            study=study,
            strange=self._strange(study),
        )

    def _strange(self, study: Study | None) -> str:
        modality = None if study is None else study.modality
        return other_modalities(self.bundle.modalities, [modality])

    def _check_open(self) -> AbstractRunner:
        if self._runner is None:
            raise EngineError(
                "The predictor is not open.", "Use it in a with block: with Predictor(...) as it:"
            )
        return self._runner
