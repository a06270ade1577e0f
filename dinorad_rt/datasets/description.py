"""`dataset.json` of nnU-Net and the Medical Segmentation Decathlon: classes and test images."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dinorad_rt.errors import TableError

DESCRIPTION = "dataset.json"


def read_description(source: Path) -> dict[str, Any]:
    """Read a `dataset.json`.

    Raises:
        TableError: no JSON object.
    """
    try:
        document = json.loads(source.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise TableError(
            f"{source.name} cannot be read: {error}.", "Fetch it again, or remove it."
        ) from error
    if not isinstance(document, dict):
        raise TableError(f"{source.name} holds no JSON object.", "Fetch it again, or remove it.")
    return document


def listed_tests(document: dict[str, Any]) -> frozenset[str]:
    """Test images of a description, as the Decathlon lists them: paths below its folder.

    Raises:
        TableError: something else than a list of paths, or of objects with an image.
    """
    entries = document.get("test") or []
    if not isinstance(entries, list):
        entries = [None]
    names = [one.get("image") if isinstance(one, dict) else one for one in entries]
    if not all(isinstance(name, str) for name in names):
        raise TableError(
            f"{DESCRIPTION} has a test list that is no list of images.",
            'Give paths, or objects with one: "test": ["./imagesTs/a.nii.gz"], or take it out.',
        )
    return frozenset(posixpath.normpath(name.replace("\\", "/")) for name in names if name)


def classes_of_description(
    document: dict[str, Any],
) -> tuple[tuple[str, ...] | None, tuple[int, ...] | None]:
    """Classes and their values of MSD ({"1": "liver"}) and nnU-Net ({"liver": 1}).

    Raises:
        TableError: values that are no whole numbers, such as regions.
    """
    labels = document.get("labels")
    if not isinstance(labels, dict) or not labels:
        return None, None
    if any(str(name).lower() == "ignore" for pair in labels.items() for name in pair):
        raise TableError(
            f"{DESCRIPTION} has the label 'ignore': voxels that are neither trained nor judged on "
            "are not supported, and as a class they would be both.",
            "Give these voxels a class (or the background), and take 'ignore' out.",
        )
    try:
        if all(str(key).lstrip("-").isdigit() for key in labels):
            pairs = sorted((int(key), str(name)) for key, name in labels.items())
        else:
            pairs = sorted((int(value), str(name)) for name, value in labels.items())
    except (TypeError, ValueError) as error:
        raise TableError(
            f"{DESCRIPTION} numbers its labels by {list(labels.items())[:3]}.",
            "Give each class one number: regions of several labels are not supported.",
        ) from error
    return ordered_classes(pairs)


def ordered_classes(
    pairs: Sequence[tuple[int, str]],
) -> tuple[tuple[str, ...], tuple[int, ...] | None]:
    """(value, name) pairs → names in order and values; background is added where it lacks."""
    if pairs[0][0] != 0:
        pairs = [(0, "background"), *pairs]
    values = tuple(value for value, _ in pairs)
    names = tuple(name for _, name in pairs)
    return names, None if values == tuple(range(len(values))) else values
