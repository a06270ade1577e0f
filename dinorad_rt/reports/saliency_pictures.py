"""Saliency, only on request: what moved a trained classifier's answers on a few test images.

Shown are the answers that were given with the highest score and were right, and those that were
wrong: the errors that nobody would look for. The map is of the class that was answered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dinorad_rt.errors import DataError
from dinorad_rt.metrics.decisions import predicted_labels
from dinorad_rt.prediction.saliency import (
    IN_PYTORCH,
    NEGATIVE,
    POSITIVE,
    Asked,
    Attribution,
    Method,
    attribute,
    black_of,
    log_odds,
    saliency_tiles,
)
from dinorad_rt.reports.answering import Model, opened_model
from dinorad_rt.reports.page import Key, Page, Picture
from dinorad_rt.reports.runs import Run
from dinorad_rt.reports.viewing import png_bytes, shown_study

if TYPE_CHECKING:
    from dinorad_rt.datasets.dataset import Sample
    from dinorad_rt.preprocessing.spec import PreprocessSpec
    from dinorad_rt.progress import Say
    from dinorad_rt.reports.gallery import GalleryRequest
    from dinorad_rt.types import Task

METHODS = {
    "occlusion": "Occlusion: a square is hidden at each place in turn and the model is asked "
    "again; coloured is how much the log-odds of its answer move.",
    "gradients": "Integrated gradients of the answer's logit along the line from a black image to "
    "this one, meaned over patches.",
    "attention": "Attention rollout: where the class token looks through all blocks, the same for "
    "every class. Plain background often gathers attention, too.",
}
NO_EXPLANATION = (
    "A saliency map shows what moved this model's answer on this image. It is no explanation of a "
    "diagnosis, and it does not show where a finding is."
)
NO_REASON = (
    "An attention map shows where this model looked on this image, not what moved its answer. It "
    "is no explanation of a diagnosis, and it does not show where a finding is."
)
TITLES = {True: "Most confident right answers", False: "Most confident wrong answers"}
SIDE = 400
ROWS = 16
"""Slices of a volume that are asked at once."""
MOST_OFF = 0.01
"""A score may differ by this from the one that was judged, before the page says so."""


@dataclass(frozen=True)
class Answer:
    """One answer of the test split.

    Attributes:
        sample_id: pseudonymous key.
        target: index of the class that was answered.
        score: of that class.
        right: whether it is the truth.
    """

    sample_id: str
    target: int
    score: float
    right: bool


def answers_of(run: Run) -> list[Answer]:
    """The answer to each test image, highest score first.

    Of several labels the answer is the one with the highest score.
    """
    predictions, results = run.predictions(), run.results
    if predictions is None:
        return []
    scores = predictions.scores
    several = results.task == "multilabel"
    chosen = scores.argmax(axis=1) if several else predicted_labels(scores, results.task)
    rows = np.arange(len(scores))
    right = results.labels[rows, chosen] == 1 if several else results.labels == chosen
    order = np.argsort(-scores[rows, chosen], kind="stable")
    return [
        Answer(
            str(results.sample_ids[at]),
            int(chosen[at]),
            float(scores[at, chosen[at]]),
            bool(right[at]),
        )
        for at in order
    ]


def add_saliency(page: Page, run: Run, request: GalleryRequest, say: Say) -> None:
    """Add the maps of a trained classifier's most confident answers, right and wrong.

    Raises:
        DataError: the model is not here.
    """
    answers = answers_of(run)
    samples = {sample.sample_id: sample for sample in request.dataset.of_split("test")}
    known = [answer for answer in answers if answer.sample_id in samples]
    if not known:
        page.paragraph(
            "No pictures: none of the judged images is among these under its pseudonym, or no "
            "scores were kept. Results of another machine need its key (DINORAD_RT_KEY).",
            soft=True,
        )
        return
    say(f"drawing what the answers of {run.label} rest on ({request.saliency})")
    gradients = request.saliency in IN_PYTORCH
    with opened_model(run, request.sources, gradients=gradients, say=say) as model:
        words = "the program of the checkpoint, in PyTorch" if gradients else model.words
        page.paragraph(NO_REASON if request.saliency == "attention" else NO_EXPLANATION)
        page.paragraph(f"{METHODS[request.saliency]} Asked was {words}.", soft=True)
        page.legend(_keys(request.saliency))
        off = 0
        for right, title in TITLES.items():
            page.heading(title, level=4)
            asked = [(one, samples[one.sample_id]) for one in known if one.right is right]
            found = _some_drawn(asked, model, run, request)
            for item in found:
                page.panels(
                    list(_pictures(item, run, request.saliency)), _caption(item, run, samples)
                )
            off += sum(abs(item.score - item.answer.score) > MOST_OFF for item in found)
            if not found:
                page.paragraph("None that may be shown.", soft=True)
    if off:
        page.warning(
            f"{off} of these answers have another score now than in the results, by more than "
            f"{MOST_OFF}: the model that was asked is not exactly the one that was judged."
        )


def _keys(method: Method) -> list[Key]:
    if method == "attention":
        return [Key(_hex(POSITIVE), "filled", "more than an even share of attention")]
    return [
        Key(_hex(POSITIVE), "filled", "speaks for the answer"),
        Key(_hex(NEGATIVE), "filled", "speaks against it"),
    ]


@dataclass(frozen=True, eq=False)
class Drawn:
    """An answer with its map.

    Attributes:
        answer: as it was judged.
        score: of the same class when the model was asked again.
        pixels: (3, H, W) of the slice, normalised.
        attribution: what moved the answer there.
        place: which slice, in words; empty for a single image.
        spec: of the model, for the picture.
    """

    answer: Answer
    score: float
    pixels: np.ndarray
    attribution: Attribution
    place: str
    spec: PreprocessSpec


def drawn(
    answer: Answer, sample: Sample, model: Model, task: Task, request: GalleryRequest
) -> Drawn | None:
    """Ask the model again and attribute its answer; None if the image may not be shown or read.

    Of a volume the slice with the highest log-odds of the answer is explained.
    """
    from dinorad_rt.preprocessing.pipeline import Preprocessor
    from dinorad_rt.training.scores import probabilities

    study = shown_study(sample, burned_in=request.burned_in)
    if study is None:
        return None
    shown, preprocess = study.displayed(), Preprocessor(model.spec)
    try:
        views = [preprocess(shown.slice(index)) for index in range(shown.num_slices)]
    except DataError:
        return None
    target, sigmoid = answer.target, task == "multilabel"
    logits = np.concatenate(
        [model.infer(np.stack(views[at : at + ROWS])) for at in range(0, len(views), ROWS)]
    ).astype(np.float64)
    best = int(log_odds(logits, target, sigmoid=sigmoid).argmax())
    score = float(probabilities(logits.mean(axis=0, keepdims=True), task)[0, target])
    asked = Asked(model.infer, model.module, black_of(model.spec), sigmoid)
    found = attribute(request.saliency, asked, views[best], target)
    place = (
        f"Slice {best + 1} of {len(views)}, which speaks most for it. " if best or views[1:] else ""
    )
    return Drawn(answer, score, views[best], found, place, model.spec)


def _some_drawn(
    asked: Sequence[tuple[Answer, Sample]], model: Model, run: Run, request: GalleryRequest
) -> list[Drawn]:
    """The first answers whose images may be shown."""
    found: list[Drawn] = []
    for answer, sample in asked:
        if len(found) == request.queries:
            break
        item = drawn(answer, sample, model, run.results.task, request)
        found += [] if item is None else [item]
    return found


def _pictures(item: Drawn, run: Run, method: Method) -> Iterator[Picture]:
    name = run.results.class_names[item.answer.target]
    highest = "most attention" if method == "attention" else f"what speaks most for {name}"
    kind = "right" if item.answer.right else "wrong"
    place = where(item.attribution.values)
    view, painted = saliency_tiles(item.spec, item.pixels, item.attribution)
    yield Picture(
        "Image", _png(view), f"Test image with the {kind} answer {name}, as the model saw it"
    )
    yield Picture(
        "Attention" if method == "attention" else "Saliency",
        _png(painted),
        f"The same under its map: {highest} lies {place}",
    )


def where(values: np.ndarray) -> str:
    """Where the map is highest, in words, for those who do not see it."""
    if not (values > 0).any():
        return "nowhere"
    rows, columns = np.nonzero(values >= 0.9 * values.max())
    third = [
        int(3 * np.mean(at) / side) for at, side in zip((rows, columns), values.shape, strict=True)
    ]
    words = f"{('top', 'middle', 'bottom')[third[0]]} {('left', 'centre', 'right')[third[1]]}"
    return f"at the {words} of the picture"


def _caption(item: Drawn, run: Run, samples: Mapping[str, Sample]) -> str:
    results, answer = run.results, item.answer
    labels = samples[answer.sample_id].labels
    if results.task == "multilabel":
        true = [name for name, on in zip(results.class_names, labels, strict=True) if on]
        truth = ", ".join(true) or "no finding"
    else:
        truth = results.class_names[labels[0]]
    return (
        f"Answer {results.class_names[answer.target]} with a score of {answer.score:.3f}; truth: "
        f"{truth}. {item.place}{item.attribution.note}"
    )


def _png(tile: np.ndarray) -> bytes:
    from PIL import Image

    return png_bytes(Image.fromarray(tile).resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def _hex(colour: tuple[int, int, int]) -> str:
    return "#" + "".join(f"{part:02X}" for part in colour)
