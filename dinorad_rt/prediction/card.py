"""The model card of a bundle (Mitchell et al., arXiv 1810.03993), made from its facts alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dinorad_rt.metrics.specs import COUNTED, measured, titled
from dinorad_rt.words import markdown_text

Facts = Mapping[str, Any]


def model_card(facts: Facts) -> str:
    """Markdown; what is not known is said, not left out.

    Args:
        facts: content of bundle.json.
    """
    lines = [f"# {markdown_text(facts['name'])}", ""]
    if facts["weights_kind"] == "random":
        lines += [
            "> **weights: random.** This model tests machinery. Its answers mean nothing.",
            "",
        ]
    lines += [
        "> **Not a medical device. Not for clinical use.** For research; a decision about a person "
        "must never rest on its answers.",
        "",
        *_model(facts),
        *_data(facts),
        *_metrics(facts),
        *_decisions(facts),
        "## Limits",
        "",
        "- Judged on the test split of the data above alone: other scanners, populations and "
        "protocols were not tested.",
        "- Images are prepared as `preprocessing` in bundle.json says; images that were windowed "
        "or exported otherwise are another input.",
        "- It always answers: it does not notice images of another body part. `predict` says so "
        "where files of another DICOM modality are given than it was trained on.",
        "",
        "## Use",
        "",
        "```bash",
        "dinorad-rt predict BUNDLE PATH --out RESULTS",
        "```",
        "",
    ]
    return "\n".join(lines)


def _model(facts: Facts) -> Iterator[str]:
    training = facts["training"]
    backbone = training.get("backbone") or {}
    method = training.get("method") or {}
    yield from ("## Model", "")
    rows = {
        "answers with": facts["kind"],
        "classes": ", ".join(facts["class_names"]),
        **_old_names(facts["class_names"], training.get("data") or {}),
        **_values(training.get("data") or {}),
        "backbone": backbone.get("name") or backbone.get("model") or "trained from scratch",
        "trained by": method.get("protocol") or (training.get("model") or {}).get("name"),
        "graph": f"{facts['precision']}, SHA-256 {facts['graph']['sha256'][:16]}…",
        "input": f"{_input(training, facts)}, preset {facts['preprocessing']['preset']}",
        "licence of the weights below": facts["licence"] or "not stated",
    }
    yield from _table(rows)


def _old_names(names: Sequence[str], data: Mapping[str, Any]) -> dict[str, str]:
    """The names of the run, where the bundle has others."""
    old = data.get("class_names") or names
    return {} if list(old) == list(names) else {"classes in the run": ", ".join(map(str, old))}


def _values(data: Mapping[str, Any]) -> dict[str, str]:
    """The numbers of the training masks, where those of predicted ones are others."""
    values = data.get("mask_values")
    if values is None or values == list(range(len(values))):
        return {}
    told = ", ".join(map(str, values))
    indices = ", ".join(map(str, range(len(values))))
    return {"numbers in masks": f"{indices} in predicted ones; {told} in those of training"}


def _input(training: Mapping[str, Any], facts: Facts) -> str:
    network = training.get("model") or {}
    if network.get("dims") == 3:
        return f"patches of {' x '.join(map(str, network['patch']))} voxels"
    return f"{facts['preprocessing']['image_size']} px"


def _data(facts: Facts) -> Iterator[str]:
    data = facts["training"]["data"]
    splits = data.get("splits") or {}
    yield from ("## Data", "")
    rows = {
        "dataset": data["name"],
        "images": ", ".join(f"{name} {count}" for name, count in splits.items()) or "not stated",
        "modalities": ", ".join(data.get("modalities") or ()) or "not stated by the files",
        "splits": "by patient; no patient stands in two",
        "fingerprint": data["fingerprint"][:16] + "…",
    }
    yield from _table(rows)
    for note in data.get("notes") or []:
        yield f"- {markdown_text(note)}"
    yield ""


def _metrics(facts: Facts) -> Iterator[str]:
    yield from ("## Test metrics", "")
    test = facts.get("test")
    if not test:
        yield from ("The run had no test split: nothing is known of its quality.", "")
        return
    yield from ("| metric | value | 95 % interval | images | patients |", "|---|---|---|---|---|")
    for row in test["metrics"]:
        yield "| " + " | ".join(map(str, _metric_cells(row, test.get("unit") or ""))) + " |"
    yield from ("", "Intervals resample patients.", "")
    for name, why in test["excluded_classes"].items():
        yield f"- {markdown_text(f'{name} is in no mean: {why}')}"
    for note in test["notes"]:
        yield f"- {markdown_text(note)}"
    yield ""


def _metric_cells(row: Facts, unit: str) -> tuple[str | int, ...]:
    """A metric with its unit, and over what it is counted where that is of two kinds."""
    name = row["name"]
    over = COUNTED.get((row.get("setting") or {}).get("over", ""))
    what = titled(name, unit) + (f", {over}" if over else "")
    value, low, high = (
        "–" if row[key] is None else measured(name, row[key])
        for key in ("value", "ci_low", "ci_high")
    )
    interval = "–" if row["ci_low"] is None else f"{low} to {high}"
    return what, value, interval, row["n"], row["n_patients"]


def _decisions(facts: Facts) -> Iterator[str]:
    if facts["kind"] == "segmentation":
        return
    yield from ("## Probabilities and decisions", "")
    calibration = facts.get("calibration")
    if calibration is None:
        yield (
            "Not calibrated: the bundle was made without validation images. Decisions use 0.5, or "
            "the most probable class."
        )
        yield ""
        return
    before, after = (calibration[f"negative_log_likelihood_{when}"] for when in ("before", "after"))
    offset = ""
    if any(calibration.get("bias") or ()):
        offset = f", offset {', '.join(_number(value) for value in calibration['bias'])}"
    yield (
        f"Temperature {', '.join(_number(value) for value in calibration['temperature'])}{offset}, "
        f"fitted on {calibration['images']} validation images: negative log likelihood "
        f"{_number(before)} → {_number(after)}."
    )
    if facts["task"] == "multiclass" and (facts["training"].get("recipe") or {}).get(
        "class_weights"
    ):
        yield ""
        yield (
            "Training weighed the classes to be equally common: these are the probabilities of a "
            "world in which they are."
        )
    yield ""
    for name, point in facts["operating_points"].items():
        yield (
            f"- {markdown_text(name)}: positive from {point['threshold']:.4f} on "
            f"({point['rule']}); sensitivity {point['sensitivity']:.3f}, specificity "
            f"{point['specificity']:.3f} on these images"
        )
    for name, why in facts["without_operating_point"].items():
        yield f"- {markdown_text(f'{name}: no threshold; 0.5 is used. {why}')}"
    yield ""


def _table(rows: Mapping[str, Any]) -> Iterator[str]:
    yield from ("| | |", "|---|---|")
    for name, value in rows.items():
        yield f"| {name} | {markdown_text(str(value))} |"
    yield ""


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
