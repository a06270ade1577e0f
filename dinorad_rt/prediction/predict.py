"""`predict`: every image under a path gets an answer, in a table that survives interruption."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dinorad_rt.embeddings.decode import Bad
from dinorad_rt.engines.build import open_runner
from dinorad_rt.engines.manifest import Engine
from dinorad_rt.errors import DataError
from dinorad_rt.files import claimed_dir
from dinorad_rt.identifiers import reason_of
from dinorad_rt.machine import usable_cores
from dinorad_rt.pipeline import build_engine
from dinorad_rt.prediction import classify as classification
from dinorad_rt.prediction import saliency
from dinorad_rt.prediction.bundle import LOGITS, Bundle
from dinorad_rt.prediction.inputs import Item, ahead, find_items, fingerprint
from dinorad_rt.prediction.masks import write_dicom_seg, write_nifti
from dinorad_rt.prediction.overlays import write_overlay
from dinorad_rt.prediction.saliency import Method
from dinorad_rt.prediction.segment import segment, volumes_ml
from dinorad_rt.prediction.table import QUESTION_FILE, Answer, AnswerTable
from dinorad_rt.progress import Progress, Say, silent, uncounted
from dinorad_rt.runners.base import AbstractRunner
from dinorad_rt.studies.read import file_kind
from dinorad_rt.studies.study import Study
from dinorad_rt.training.modalities import other_modalities
from dinorad_rt.words import count_of, verb_of

MaskFormat = Literal["nifti", "dicom-seg"]
PART_ITEMS, PART_SECONDS = 64, 20.0
"""A part is written when it has so many answers, or after so long."""
MASKS_FOLDER, OVERLAYS_FOLDER, SALIENCY_FOLDER = "masks", "overlays", "saliency"


@dataclass(frozen=True)
class PredictOptions:
    """Every choice of a prediction that decides what is written.

    Attributes:
        backend: what runs the engine; auto for the fastest here.
        profile: batch, streams and threads.
        masks: formats of masks, for segmentation; of both, images that are no DICOM get NIfTI.
        overlays: also draw each mask on its slices, as PNG.
        saliency: also draw what each class answer rests on, as PNG; None for no.
        keep_identifiers: name files by their paths. DICOM SEG carries its patient's identity, so
            it needs this.
    """

    backend: str = "auto"
    profile: str = "default"
    masks: tuple[MaskFormat, ...] = ("nifti",)
    overlays: bool = False
    saliency: Method | None = None
    keep_identifiers: bool = False


@dataclass(frozen=True)
class PredictSummary:
    """What a prediction left behind.

    Attributes:
        folder: of the results.
        answered, failed: items.
        earlier: of these, answered by an earlier run that was interrupted.
        engine: that gave the answers.
        reason: of most failures, empty without any.
        strange: what to say of items of another kind than the training's; empty without any.
    """

    folder: Path
    answered: int
    failed: int
    earlier: int
    engine: Engine
    reason: str = ""
    strange: str = ""


def predict(
    bundle: Bundle,
    path: Path,
    out: Path,
    options: PredictOptions | None = None,
    *,
    workers: int | None = None,
    say: Say = silent,
    progress: Progress | None = None,
) -> PredictSummary:
    """Answer for every series, volume and image under a path; go on where an earlier run stopped.

    Args:
        bundle: the model.
        path: a file, a folder, or a DICOMDIR.
        out: folder of predictions.parquet and .csv, masks and overlays.
        options: what is written.
        workers: threads that read; None for every usable core.
        say, progress: told of decisions, and of (done, total) items.

    Raises:
        EmptyDataError: there is no image.
        OutputExistsError: `out` holds something else, or answers to another question.
        EngineError, ParityError: no engine of this bundle can be had here.
    """
    options = _checked(options or PredictOptions(), bundle)
    with claimed_dir(out, QUESTION_FILE):
        cores = workers or usable_cores()
        return _predict(bundle, path, out, options, workers=cores, say=say, progress=progress)


def _predict(
    bundle: Bundle,
    path: Path,
    out: Path,
    options: PredictOptions,
    *,
    workers: int,
    say: Say,
    progress: Progress | None,
) -> PredictSummary:
    items = find_items(path, say)
    strange = other_modalities(
        bundle.modalities, (item.series.modality if item.series else None for item in items)
    )
    if strange:
        say(strange)
    engine = build_engine(bundle.graph, backend=options.backend, profile=options.profile, say=say)
    columns = _columns(bundle)
    question = {
        "bundle": bundle.name,
        "graph_sha256": bundle.graph.sha256,
        "engine_key": engine.key,
        "weights_kind": bundle.weights_kind,
        "classes_and_calibration": bundle.deciding_digest,
        "items": fingerprint(items),
        "masks": list(options.masks),
        "overlays": options.overlays,
        "saliency": options.saliency,
        "keep_identifiers": options.keep_identifiers,
    }
    table = AnswerTable(out, question, columns, with_files=options.keep_identifiers)
    todo = [item for item in items if item.key not in table.done]
    earlier = len(items) - len(todo)
    told = progress or uncounted
    told(earlier, len(items))
    if todo:
        with open_runner(engine) as runner:
            answers = _answers(bundle, runner, todo, (out, options), workers)
            _collect(table, answers, earlier, len(items), told)
    counts = table.finish([item.key for item in items])
    if options.saliency is not None:
        explained = [item for item in items if not _png(table, item).exists()]
        if explained:
            say(f"drawing what the answers rest on ({options.saliency})")
            with open_runner(engine) as runner:
                _explain(bundle, runner, explained, table, options.saliency)
    strange = "\n".join(filter(None, (strange, _other_extent(bundle, table))))
    reasons = Counter(row["reason"] for row in table.rows() if row["reason"])
    reason = reasons.most_common(1)[0][0] if reasons else ""
    return PredictSummary(
        out, counts["answered"], counts["failed"], earlier, engine, reason, strange
    )


def _other_extent(bundle: Bundle, table: AnswerTable) -> str:
    """What to say of volumes where single images chose the thresholds, and the other way round."""
    if bundle.slices is None:
        return ""
    counts = [row["slices"] for row in table.rows() if row["status"] == "ok"]
    fewest, most = bundle.slices
    strange = sum(count > 1 for count in counts) if most == 1 else 0
    what = "single images", verb_of(strange, "is a volume", "are volumes")
    if fewest > 1:
        strange = counts.count(1)
        what = "volumes", verb_of(strange, "is a single image", "are single images")
    if not strange:
        return ""
    return (
        f"calibrated on {what[0]}; {strange} of {count_of(len(counts), 'answer')} {what[1]}, and a "
        "volume's answer is the mean of its slices': the thresholds were not chosen for them"
    )


def _checked(options: PredictOptions, bundle: Bundle) -> PredictOptions:
    """Refuse, before any work, what cannot be written."""
    if bundle.kind == "classification":
        if options.saliency == "attention":
            _check_attention(bundle)
        if options.overlays:
            raise DataError(
                "Overlays show masks; this bundle answers with classes.",
                "Use --saliency to see what an answer rests on.",
            )
        return replace(options, masks=(), overlays=False)
    if options.saliency is not None:
        raise DataError(
            "Saliency explains classes; this bundle answers with masks.",
            "Use --overlays to see them on their slices.",
        )
    if "dicom-seg" in options.masks and not options.keep_identifiers:
        raise DataError(
            "A DICOM SEG carries name, id and UIDs of the study that it belongs to.",
            "Add --keep-identifiers if the results may hold them, or write --masks nifti.",
        )
    return options


def _columns(bundle: Bundle) -> dict[str, str]:
    if bundle.kind == "classification":
        return classification.columns_of(bundle)
    return {f"volume_ml_{name}": "float" for name in bundle.class_names[1:]} | {"mask": "text"}


def _answers(
    bundle: Bundle,
    runner: AbstractRunner,
    items: list[Item],
    where: tuple[Path, PredictOptions],
    workers: int,
) -> Iterator[Answer]:
    """Answers in the order of the items, read ahead by threads."""
    keep = where[1].keep_identifiers
    limit = max(2, 2 * workers)
    with closing(ahead(Item.read, items, workers=workers, limit=limit)) as studies:  # type: ignore[type-var]
        if bundle.kind == "classification":
            for item, answer in classification.classify(bundle, runner, studies):
                yield replace(answer, file=item.name if keep else None)
            return
        for item, study in studies:
            answer = _segmented(bundle, runner, item, study, where)
            yield replace(answer, file=item.name if keep else None)


def _segmented(
    bundle: Bundle,
    runner: AbstractRunner,
    item: Item,
    study: Study | Bad,
    where: tuple[Path, PredictOptions],
) -> Answer:
    """Segment one item and write its files; what it lacks for them fails it, not the job."""
    out, options = where
    mask = study if isinstance(study, Bad) else segment(bundle, runner, item, study)
    if isinstance(mask, Bad) or isinstance(study, Bad):
        return Answer(item.key, reason=mask.reason if isinstance(mask, Bad) else "")
    name = ""
    try:
        if "nifti" in options.masks:
            name = f"{MASKS_FOLDER}/{item.key}.nii.gz"
            write_nifti(out / name, mask, study, item)
        # what is no DICOM has its NIfTI mask, where both forms are asked for
        if "dicom-seg" in options.masks and (not name or file_kind(item.files[0]) == "dicom"):
            name = f"{MASKS_FOLDER}/{item.key}.dcm"
            version = bundle.graph.sha256[:16]
            write_dicom_seg(
                out / name, mask, item, bundle.class_names, model=bundle.name, version=version
            )
    except DataError as error:
        return Answer(item.key, reason=reason_of(error, item.files[0]))
    if options.overlays:
        write_overlay(out / OVERLAYS_FOLDER / f"{item.key}.png", mask, study, bundle.class_names)
    volumes = volumes_ml(mask, study, len(bundle.class_names))
    values: dict[str, float | str] = {
        f"volume_ml_{label}": float(volume)
        for label, volume in zip(bundle.class_names[1:], volumes, strict=True)
    }
    return Answer(item.key, len(mask), {**values, "mask": name})


def _collect(
    table: AnswerTable, answers: Iterator[Answer], done: int, total: int, told: Progress
) -> None:
    """Write answers part by part, a slow one at once; only a kill loses the unfinished part."""
    held: list[Answer] = []
    written = time.monotonic()
    try:
        for answer in answers:
            held.append(answer)
            done += 1
            told(done, total)
            if len(held) == PART_ITEMS or time.monotonic() - written > PART_SECONDS:
                table.add(held)
                held, written = [], time.monotonic()
    finally:
        table.add(held)


def _explain(
    bundle: Bundle,
    runner: AbstractRunner,
    items: list[Item],
    table: AnswerTable,
    method: Method,
) -> None:
    """Draw the map of each answered item's class: of the predicted one, or the positive one."""
    rows = {row["item"]: row for row in table.rows() if row["status"] == "ok"}
    module = saliency.logits_module(bundle) if method in saliency.IN_PYTORCH else None
    black = saliency.black_of(bundle.preprocessing)

    def infer(pixels: np.ndarray) -> np.ndarray:
        return runner.infer(np.ascontiguousarray(pixels, np.float32))[LOGITS]

    asked = saliency.Asked(infer, module, black, bundle.task == "multilabel")
    for item in items:
        if item.key not in rows:
            continue
        name, probability = _explained(bundle, rows[item.key])
        target = bundle.class_names.index(name)
        pixels = saliency.chosen_slice(bundle, infer, item, target)
        if isinstance(pixels, Bad):
            continue
        found = saliency.attribute(method, asked, pixels, target)
        lines = [
            f"{name}: probability {probability:.3f}. {saliency.READING[method]}",
            f"{found.note} Not for clinical use.",
        ]
        saliency.write_saliency(_png(table, item), bundle, pixels, found, lines)


def _check_attention(bundle: Bundle) -> None:
    """Refuse networks without attention before anything is answered, by asking about black."""
    black = saliency.black_of(bundle.preprocessing)
    size = bundle.preprocessing.image_size
    saliency.attention(saliency.logits_module(bundle), black.repeat(size, 1).repeat(size, 2))


def _png(table: AnswerTable, item: Item) -> Path:
    return table.folder / SALIENCY_FOLDER / f"{item.key}.png"


def _explained(bundle: Bundle, row: Mapping[str, Any]) -> tuple[str, float]:
    """The class whose map is drawn: the most probable, for binary tasks the positive one."""
    names = bundle.class_names
    scores = classification.probabilities_of(bundle, row)
    name = names[-1] if bundle.task == "binary" else max(scores, key=scores.__getitem__)
    return name, scores[name]
