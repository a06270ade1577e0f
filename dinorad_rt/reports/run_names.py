"""Names that tell runs apart: the model, and of everything else only what differs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path
from typing import Any

from dinorad_rt.reports.results import Results
from dinorad_rt.reports.runs import Run, test_set_key

UNTOLD_SETTINGS = ("preset_name", "device", "resamples", "reference", "shots")


def labelled(results: Iterable[Results], folders: Iterable[Path] = ()) -> tuple[Run, ...]:
    """Runs with names that tell them apart.

    The name has what differs between runs of one model, random weights apart; the variant, what
    settings differ between runs of one name and protocol on one test set.

    Args:
        results: of the runs.
        folders: where they lie, in the same order; fewer where that is not known.
    """
    runs = [
        Run(item, number, folder=folder)
        for number, (item, folder) in enumerate(
            zip(results, chain(folders, repeat(None)), strict=False), start=1
        )
    ]
    named: list[Run] = []
    for same in _split(runs, lambda run: (run.model, run.results.is_random)).values():
        for run, words in zip(same, _told_apart([_facts(run) for run in same]), strict=True):
            random = " (random weights)" if run.results.is_random else ""
            named.append(replace(run, name=f"{run.model}{random} {words}".strip()))
    finished: list[Run] = []
    for same in _split(
        named, lambda run: (run.name, run.results.protocol, test_set_key(run.results))
    ).values():
        variants = _told_apart([_settings(run) for run in same])
        for run, words in zip(same, variants, strict=True):
            known = words if variants.count(words) == 1 else f"{words} (run {run.number})".strip()
            finished.append(replace(run, variant=known))
    return tuple(sorted(finished, key=lambda run: run.number))


def _split(runs: Iterable[Run], key: Callable[[Run], Any]) -> dict[Any, list[Run]]:
    parts: dict[Any, list[Run]] = {}
    for run in runs:
        parts.setdefault(key(run), []).append(run)
    return parts


def _told_apart(facts: Sequence[Mapping[str, str]]) -> list[str]:
    """Of each, the facts that differ, without those that tell nothing new."""
    kept: list[str] = []
    groups = 1
    for key in dict.fromkeys(key for fact in facts for key in fact):
        values = {fact.get(key, "") for fact in facts} - {""}
        finer = len({tuple(fact.get(name) for name in (*kept, key)) for fact in facts})
        if len(values) > 1 and finer > groups:
            kept.append(key)
            groups = finer
    return [" ".join(filter(None, (fact.get(key, "") for key in kept))) for fact in facts]


def _facts(run: Run) -> dict[str, str]:
    """What may tell two runs of one model and protocol apart."""
    results = run.results
    preprocessing = results.provenance.get("preprocessing") or {}
    evaluation = results.provenance.get("evaluation") or {}
    size = preprocessing.get("image_size")
    training = results.provenance.get("training") or {}
    return {
        **_method_words(training.get("method") or {}),
        "judged": _judged_words(results),
        "weights": _named_weights(run),
        "size": f"{size} px" if size else "",
        "precision": str(run.engine.get("precision") or ""),
        "backend": str(run.engine.get("backend") or ""),
        "preprocessing": f"preprocessing {preprocessing.get('preset')}" if preprocessing else "",
        "preset": f"preset {results.preset}",
        "seed": f"seed {evaluation['seed']}" if "seed" in evaluation else "",
    }


def _named_weights(run: Run) -> str:
    """What the weights are; that they are random stands in every such name already."""
    words = _weights_words(run.engine.get("weights")) or run.results.weights_kind
    return words.removeprefix("random").strip(" ,") if run.results.is_random else words


def _method_words(method: Mapping[str, Any]) -> dict[str, str]:
    """What a training tunes, by what, first: lora, rank 48; unet, encoder cached."""
    bare = ("protocol", "decoder")
    return {
        f"method {key}": str(value) if key in bare else f"{key.replace('_', ' ')} {value}"
        for key, value in sorted(method.items(), key=lambda item: item[0] not in bare)
        if value is not None
    }


def _settings(run: Run) -> dict[str, str]:
    """The settings of a run's protocol, in words."""
    settings = run.results.settings
    return {
        key: f"{key.replace('_', ' ')} {_plain_words(settings[key])}"
        for key in sorted(settings, key=lambda key: key != "head")  # what people ask for first
        if key not in UNTOLD_SETTINGS
    }


def _plain_words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _judged_words(results: Results) -> str:
    """Of trained models: whether the results are those of the training or of an engine."""
    if "run" in results.provenance:
        return "on its engine"
    return "as trained" if "training" in results.provenance else ""


def _weights_words(weights: Any) -> str:
    """Weights in few words: what they are called, and the first digits of their hash."""
    if not isinstance(weights, Mapping):
        return str(weights or "")
    sha = str(weights.get("sha256") or "")[:6]
    source = str(weights.get("source") or weights.get("kind") or "")
    if source.startswith("tuned ("):
        source = source.partition(" on ")[0]  # on what and from what stands in the provenance
    return " ".join(filter(None, (source, sha)))
