"""Classes of masks in the files of a run: names and stored values, written and read in one place.

`train.json`, `bundle.json` and `results.json` hold them under `data` or `dataset`, and every verb
that opens the masks again takes them from there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from dinorad_rt.datasets.dataset import Dataset

_GUESSED_NAME = re.compile(r"class (\d+)")


def class_facts(dataset: Dataset) -> dict[str, Any]:
    """What a file says of the classes: their names; of masks also the values, see `Dataset`."""
    names = {"class_names": list(dataset.class_names)}
    if dataset.task != "segmentation":
        return names
    values = dataset.mask_values
    return names | {"mask_values": None if values is None else list(values)}


def choices_of(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The choices of `open_dataset` that give masks the classes in a file.

    Args:
        facts: what `class_facts` wrote, or what an earlier form held: names alone.
    """
    names = tuple(facts["class_names"])
    values = facts["mask_values"] if "mask_values" in facts else _of_guessed_names(names)
    chosen = {"task": "segmentation", "class_names": names}
    return chosen if values is None else chosen | {"mask_values": tuple(values)}


def _of_guessed_names(names: Sequence[str]) -> tuple[int, ...] | None:
    """Files without values: a class that nobody named is called by its value, `class 60`."""
    numbers = [_GUESSED_NAME.fullmatch(name) for name in names[1:]]
    if names[:1] != ("background",) or None in numbers:
        return None
    return (0, *(int(number[1]) for number in numbers if number is not None))
