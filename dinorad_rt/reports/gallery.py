"""Pictures, only on request, of what the runs were judged on.

    segmenters            outlines of reference and prediction      mask_pictures
    trained classifiers   saliency of right and wrong answers       saliency_pictures
    backbones             nearest images, maps of patch tokens      alike

Images are read again and shown as the network saw them, scaled down, without names or paths. An
image whose header says that text is burned into it is left out unless asked for; formats without a
header cannot say so, and the page says that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dinorad_rt.errors import DataError, DinoradError
from dinorad_rt.progress import Say, silent
from dinorad_rt.reports.alike import add_alike
from dinorad_rt.reports.answering import Sources, digest_of, is_trained
from dinorad_rt.reports.mask_pictures import add_masks
from dinorad_rt.reports.material import Material
from dinorad_rt.reports.page import Page
from dinorad_rt.reports.runs import Run
from dinorad_rt.reports.saliency_pictures import add_saliency
from dinorad_rt.reports.sections import RANDOM
from dinorad_rt.reports.viewing import CAUTION
from dinorad_rt.words import count_of

if TYPE_CHECKING:
    from dinorad_rt.datasets.dataset import Dataset
    from dinorad_rt.prediction.saliency import Method


@dataclass(frozen=True)
class GalleryRequest:
    """What pictures are wanted.

    Attributes:
        dataset: the images, of which those of matching runs are shown.
        queries: test images for each model.
        weights: weights files of the runs, matched by their hash.
        burned_in: show images with burned-in annotations, too.
        checkpoints: run folders or bundles of trained models that lie elsewhere than their results.
        saliency: how the answers of trained classifiers are explained.
    """

    dataset: Dataset
    queries: int = 4
    weights: tuple[Path, ...] = ()
    burned_in: bool = False
    checkpoints: tuple[Path, ...] = ()
    saliency: Method = "occlusion"

    @property
    def sources(self) -> Sources:
        """Where models may be found again."""
        return Sources(self.checkpoints, self.weights)


def gallery_for(
    material: Material, *requests: GalleryRequest, say: Say = silent
) -> Callable[[Page], None]:
    """The part of the page with pictures; computed when it is added.

    Args:
        material: the runs.
        requests: one for each dataset, or for each way to open it.
        say: told each step.

    Raises:
        DataError: no run of the report was judged on any of the datasets.
    """
    wanted = [(run, request) for request in requests for run in _fitting(material, request)]
    if not wanted:
        names = ", ".join(dict.fromkeys(request.dataset.name for request in requests))
        raise DataError(
            f"No run of this report was judged on {names}: the content of the images, labels or "
            "splits differs.",
            "Give the gallery the dataset of the runs, with the same options.",
        )

    fingerprints = {request.dataset.fingerprint for request in requests}
    others = sum(_fingerprint(run) not in fingerprints for run in material.runs)
    if others:
        say(f"no pictures of {count_of(others, 'run')}: judged on other data")

    def add(page: Page) -> None:
        page.heading("Pictures")
        page.paragraph(CAUTION)
        for run, request in wanted:
            page.heading(f"{run.label}: {run.results.dataset}", level=3)
            if run.results.is_random:
                page.warning(f"{RANDOM}.")
            try:
                _ADDERS[_kind(run)](page, run, request, say)
            except DinoradError as error:
                say(f"no pictures of {run.model}: {error.problem}")
                page.paragraph("No pictures: see what the command line said.", soft=True)

    return add


def _fitting(material: Material, request: GalleryRequest) -> list[Run]:
    """Runs that were judged on the dataset, one for each engine, and of a checkpoint those on an
    engine rather than that of its training."""
    fingerprint = request.dataset.fingerprint
    found: dict[str, Run] = {}
    for run in material.runs:
        if _fingerprint(run) == fingerprint and run.results.task == request.dataset.task:
            found.setdefault(_identity(run), run)
    on_engines = {digest_of(run) for run in found.values() if "run" in run.results.provenance}
    return [
        run
        for run in found.values()
        if "run" in run.results.provenance
        or not is_trained(run)
        or digest_of(run) not in on_engines
    ]


def _fingerprint(run: Run) -> str | None:
    return (run.results.provenance.get("dataset") or {}).get("fingerprint")


def _identity(run: Run) -> str:
    """The same for runs whose pictures would be the same."""
    key = str(run.engine.get("key"))
    if is_trained(run) and "run" not in run.results.provenance:
        return f"trained {digest_of(run) or run.number}"
    return key


def _kind(run: Run) -> str:
    if run.results.task == "segmentation":
        return "masks"
    return "saliency" if is_trained(run) else "alike"


_ADDERS: dict[str, Callable[[Page, Run, GalleryRequest, Say], None]] = {
    "masks": add_masks,
    "saliency": add_saliency,
    "alike": add_alike,
}
