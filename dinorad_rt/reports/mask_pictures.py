"""Pictures of masks, only on request: the worst, the median and the best test cases by Dice.

Each is shown as image, reference and prediction. The prediction is made again by the model that was
judged (see `answering`), on the whole volume, and its Dice is compared with the one in the results.
Of a volume the slice with the largest reference is shown, the same rule for all cases.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dinorad_rt.metrics.cases import CaseTable
from dinorad_rt.metrics.specs import measured
from dinorad_rt.reports.answering import Model, opened_model
from dinorad_rt.reports.mask_numbers import cases_of
from dinorad_rt.reports.outlines import outlined_png
from dinorad_rt.reports.page import Key, Page, Picture
from dinorad_rt.reports.palette import style_of
from dinorad_rt.reports.runs import Run
from dinorad_rt.reports.table import unit_of
from dinorad_rt.reports.viewing import seen_slice, shown_study
from dinorad_rt.words import count_of

if TYPE_CHECKING:
    from dinorad_rt.datasets.dataset import Sample
    from dinorad_rt.progress import Say
    from dinorad_rt.reports.gallery import GalleryRequest
    from dinorad_rt.studies.study import Study

KINDS = ("worst", "median", "best")
MOST_OFF = 0.002
"""Dice of a case may differ by this from the one that was judged, before the page says so."""


@dataclass(frozen=True, eq=False)
class Shown:
    """One case on one slice, turned as radiologists look at it.

    Attributes:
        picture: (height, width, 3) in [0, 1].
        truth, predicted: (height, width) class indices.
        spacing: (row, column) in millimetres, or None.
        place: which slice, in words; empty for a single image.
        dice: of the whole case as it was predicted now, mean over the classes.
    """

    picture: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray
    spacing: tuple[float, float] | None
    place: str
    dice: float


def add_masks(page: Page, run: Run, request: GalleryRequest, say: Say) -> None:
    """Add the pictures of a segmenter's test cases.

    Raises:
        DataError: the model is not here.
    """
    from dinorad_rt.training.segmentation.evaluate import volumes_of

    cases = cases_of(run)
    if cases is None:
        page.paragraph("No pictures: cases.parquet is not beside the results.", soft=True)
        return
    volumes = {group[0].sample_id: group for group in volumes_of(request.dataset.of_split("test"))}
    dice = cases.values("dice")
    known = [
        at
        for at in np.argsort(dice, kind="stable")
        if np.isfinite(dice[at]) and _in(volumes, cases, at)
    ]
    if not known:
        page.paragraph(
            "No pictures: none of the judged cases is among these images under its pseudonym. "
            "Results of another machine need its key (DINORAD_RT_KEY).",
            soft=True,
        )
        return
    say(f"segmenting test cases of {run.label} for their pictures")
    with opened_model(run, request.sources, say=say) as model:
        _add_cases(page, (run, cases), (known, volumes), model, request)


def ranked(known: Sequence[int], kind: str) -> list[int]:
    """Cases in the order in which they stand for a kind.

    Args:
        known: rows of the cases, lowest Dice first.
        kind: of `KINDS`.
    """
    if kind == "median":
        middle = (len(known) - 1) / 2
        return [known[at] for at in sorted(range(len(known)), key=lambda at: abs(at - middle))]
    return list(known) if kind == "worst" else list(reversed(known))


def _in(volumes: Mapping[str, object], cases: CaseTable, at: int) -> bool:
    return str(cases.case_ids[at]) in volumes


def _add_cases(
    page: Page,
    judged: tuple[Run, CaseTable],
    found: tuple[Sequence[int], Mapping[str, list[Sample]]],
    model: Model,
    request: GalleryRequest,
) -> None:
    (run, cases), (known, volumes) = judged, found
    page.paragraph(
        f"Outlines of the reference and of what the model predicts ({model.words}); worst, median "
        f"and best of {count_of(len(cases.case_ids), 'test case')} by Dice, of those that may be "
        "shown. Of a volume the slice with the largest reference is shown.",
        soft=True,
    )
    page.legend(
        [Key(*style_of(index), name) for index, name in enumerate(run.results.class_names) if index]
    )
    dice, off, used = cases.values("dice"), 0, set[int]()
    for kind in KINDS:
        left = request.queries
        for at in ranked(known, kind):
            if not left:
                break
            if at in used:
                continue
            shown = shown_case(volumes[str(cases.case_ids[at])], model, run, request.burned_in)
            if shown is None:
                continue
            used.add(at)
            left -= 1
            off += not abs(shown.dice - dice[at]) <= MOST_OFF  # NaN is another Dice, too
            page.panels(list(_pictures(shown, kind, run)), _caption(shown, kind, run, (cases, at)))
    if not used:
        page.paragraph("No test case may be shown.", soft=True)
    if off:
        page.warning(
            f"{off} of these cases have another Dice now than in the results, by more than "
            f"{MOST_OFF}: what is drawn is not exactly what was judged."
        )


def shown_case(group: Sequence[Sample], model: Model, run: Run, burned_in: bool) -> Shown | None:
    """Predict a case and choose its slice; None if any part may not be shown or read.

    Args:
        group: the sample of a volume or image, or those of the slices of one series.
        model: a segmenter.
        run: names the classes.
        burned_in: also show images with burned-in annotations.

    Raises:
        MaskError, LabelError: a mask that does not fit.
    """
    from dinorad_rt.datasets.masks import read_mask
    from dinorad_rt.metrics.segmentation import case_scores
    from dinorad_rt.training.segmentation.predict import segment_study

    assert model.segmenter is not None
    parts: list[tuple[Study, np.ndarray, np.ndarray]] = []
    for sample in group:
        study = shown_study(sample, burned_in=burned_in)
        if study is None:
            return None
        parts.append((study, read_mask(sample), segment_study(model.segmenter, study)))
    truth, predicted = (np.concatenate([part[side] for part in parts]) for side in (1, 2))
    scores = case_scores(truth, predicted, len(run.results.class_names), surfaces=False).dice
    areas = np.count_nonzero(truth if truth.any() else predicted, axis=(1, 2))
    at = int(areas.argmax())
    lengths = np.cumsum([len(part[1]) for part in parts])
    number = int(np.searchsorted(lengths, at, side="right"))
    index = at - int(lengths[number] - len(parts[number][1]))
    place = f"Slice {at + 1} of {len(truth)}" if len(truth) > 1 else ""
    dice = float(np.nanmean(scores)) if np.isfinite(scores).any() else float("nan")
    return _on_slice(parts[number], index, model, (place, dice))


def _on_slice(
    part: tuple[Study, np.ndarray, np.ndarray], index: int, model: Model, facts: tuple[str, float]
) -> Shown:
    from dinorad_rt.training.segmentation.grid import undisplayed

    study, *masks = part
    truth, predicted = (undisplayed(mask, study)[index] for mask in masks)  # the same flips
    spacing = None if study.spacing is None else (study.spacing[1], study.spacing[2])
    if spacing is not None and not np.isfinite(spacing).all():
        spacing = None
    picture = seen_slice(study.displayed().slice(index), model.spec)
    return Shown(picture, truth, predicted, spacing, *facts)


def _pictures(shown: Shown, kind: str, run: Run) -> Iterator[Picture]:
    names = run.results.class_names
    what = f"{kind} test case by Dice"
    yield Picture("Image", outlined_png(shown.picture, None, shown.spacing), f"Image of the {what}")
    for title, mask in (("Reference", shown.truth), ("Prediction", shown.predicted)):
        shares = [
            f"{name} {100 * np.mean(mask == index):.1f} % of the picture"
            for index, name in enumerate(names)
            if index and (mask == index).any()
        ]
        yield Picture(
            title if shares else f"{title}: no class here",
            outlined_png(shown.picture, mask, shown.spacing),
            f"{title} of the {what}, outlined: {', '.join(shares) or 'no class on this slice'}",
        )


def _caption(shown: Shown, kind: str, run: Run, judged: tuple[CaseTable, int]) -> str:
    """Dice of each class and the mean, HD95, as the results hold them, and which slice."""
    cases, at = judged
    words = f"{kind.capitalize()}: Dice {measured('dice', cases.values('dice')[at])}"
    each = [
        f"{name} {measured('dice', value)}"
        for name, value in zip(cases.class_names, cases.scores["dice"][at], strict=True)
        if np.isfinite(value)
    ]
    if len(cases.class_names) > 1:
        words += f" ({', '.join(each)})"
    distance = cases.values("hd95")[at]
    if np.isfinite(distance):
        words += f", HD95 {measured('hd95', distance, unit_of(run.results))}"
    nsd = cases.values("nsd")[at]
    if np.isfinite(nsd):
        words += f", NSD {measured('nsd', nsd)}"
    return f"{words}. {shown.place}".strip().removesuffix(".") + "."
