"""Class probabilities of items, streamed through an engine in full batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from dinorad_rt.embeddings.decode import Bad, Decoder
from dinorad_rt.errors import EngineError
from dinorad_rt.metrics.calibration import probabilities
from dinorad_rt.prediction.bundle import LOGITS, Bundle
from dinorad_rt.prediction.inputs import Item
from dinorad_rt.prediction.table import Answer
from dinorad_rt.studies.study import Study

if TYPE_CHECKING:
    from dinorad_rt.runners.base import AbstractRunner

_PROBABILITY = "probability_"


@dataclass
class _Pending:
    """One item on its way: its slices may lie in several batches."""

    item: Item
    waiting: int = 0
    complete: bool = False
    logits: list[np.ndarray] = field(default_factory=list)
    reason: str = ""


def classify(
    bundle: Bundle, runner: AbstractRunner, studies: Iterable[tuple[Item, Study | Bad]]
) -> Iterator[tuple[Item, Answer]]:
    """One answer per item, in order.

    A volume's logits are the mean over its slices, as the head saw them in training. An item of
    which a slice cannot be preprocessed fails as a whole: half a volume is no answer.

    Args:
        bundle: a classification.
        runner: of an engine of the bundle's graph, active.
        studies: items as `Item.read` gives them.

    Raises:
        EngineError: logits are NaN or infinite.
    """
    queue: deque[_Pending] = deque()
    tickets: deque[list[_Pending]] = deque()
    batches = _batches(bundle, runner.batch, studies, queue, tickets)
    results = runner.infer_stream(batches)
    with closing(results):  # type: ignore[type-var]
        for outputs in results:
            for pending, logits in zip(tickets.popleft(), outputs[LOGITS], strict=True):
                pending.logits.append(logits)
                pending.waiting -= 1
            yield from _finished(bundle, queue)
    yield from _finished(bundle, queue)


def _batches(
    bundle: Bundle,
    size: int,
    studies: Iterable[tuple[Item, Study | Bad]],
    queue: deque[_Pending],
    tickets: deque[list[_Pending]],
) -> Iterator[np.ndarray]:
    """Slices of many items packed together; who is in a batch goes to `tickets`."""
    decoder = Decoder(bundle.preprocessing)
    held: list[np.ndarray] = []
    owners: list[_Pending] = []
    for item, study in studies:
        pending = _Pending(item)
        queue.append(pending)
        for pixels in _slices(decoder, item, study):
            if isinstance(pixels, Bad):
                pending.reason = pixels.reason
                break
            pending.waiting += 1
            held.append(pixels)
            owners.append(pending)
            if len(held) == size:
                tickets.append(owners)
                yield np.stack(held)
                held, owners = [], []
        pending.complete = True
    if held:
        tickets.append(owners)
        yield np.stack(held)


def _slices(decoder: Decoder, item: Item, study: Study | Bad) -> Iterator[np.ndarray | Bad]:
    if isinstance(study, Bad):
        yield study
        return
    shown = study.displayed()
    for index in range(shown.num_slices):
        image = decoder.image(shown.slice(index), item.files[0])
        yield image if isinstance(image, Bad) else image.pixels


def _finished(bundle: Bundle, queue: deque[_Pending]) -> Iterator[tuple[Item, Answer]]:
    while queue and queue[0].complete and not queue[0].waiting:
        done = queue.popleft()
        yield done.item, _answer(bundle, done)


def _answer(bundle: Bundle, done: _Pending) -> Answer:
    if done.reason:
        return Answer(done.item.key, reason=done.reason)
    logits = np.mean(np.asarray(done.logits, np.float64), axis=0)
    if not np.isfinite(logits).all():
        raise EngineError(
            "The engine gave NaN or infinite logits for an item; nothing of it is stored.",
            "Build the engine in a wider precision: --precision fp32, or bf16.",
        )
    scores = scores_of(bundle, logits[None])[0]
    return Answer(done.item.key, len(done.logits), values_of(bundle, scores))


def scores_of(bundle: Bundle, logits: np.ndarray) -> np.ndarray:
    """Calibrated probabilities (samples, classes) of logits (samples, classes or 1).

    A single logit of a binary head is that of the positive class.
    """
    if bundle.task == "binary" and logits.shape[1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
    return probabilities(logits, bundle.activation, bundle.temperature, bundle.bias)


def columns_of(bundle: Bundle) -> dict[str, str]:
    """Columns of a classification's table."""
    names = {_PROBABILITY + name: "float" for name in bundle.class_names}
    return {**names, "predicted": "text"}


def values_of(bundle: Bundle, scores: Sequence[float] | np.ndarray) -> dict[str, float | str]:
    """One row: a probability per class, and the decision; several labels are joined by `|`."""
    values: dict[str, float | str] = {
        _PROBABILITY + name: float(score)
        for name, score in zip(bundle.class_names, scores, strict=True)
    }
    return {**values, "predicted": "|".join(decided(bundle, scores))}


def probabilities_of(bundle: Bundle, row: Mapping[str, Any]) -> dict[str, float]:
    """Class → probability of a row of `values_of`."""
    return {name: float(row[_PROBABILITY + name]) for name in bundle.class_names}


def decided(bundle: Bundle, scores: Sequence[float] | np.ndarray) -> tuple[str, ...]:
    """The class that probabilities stand for, or the labels of a multi-label task.

    Binary and multi-label decisions take the bundle's operating points, 0.5 where it has none.
    Multi-class takes the most probable class.
    """
    names, points = bundle.class_names, bundle.operating_points
    threshold = {name: points[name].threshold if name in points else 0.5 for name in names}
    if bundle.task == "binary":
        return (names[-1] if scores[-1] >= threshold[names[-1]] else names[0],)
    if bundle.task == "multilabel":
        return tuple(n for n, score in zip(names, scores, strict=True) if score >= threshold[n])
    return (names[int(np.argmax(scores))],)
