"""Masks of a BIDS tree: `sub-01_T1w` goes with `sub-01_..._mask`, in `derivatives` or beside it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from dinorad_rt.datasets.beside import endings_of
from dinorad_rt.datasets.locate import could_be_image, stem_of
from dinorad_rt.errors import MaskError
from dinorad_rt.identifiers import listed
from dinorad_rt.studies.series import natural_key, visible_files
from dinorad_rt.words import count_of, verb_of

_SUBJECT = re.compile(r"(sub-[^_]+)(?:_(ses-[^_]+))?(?:_|$)")
_MASK_SUFFIXES = frozenset("mask msk dseg seg roi lesion".split())
_DERIVED = "derivatives"

Scan = tuple[str, str]
"""Subject and session, the latter empty where there is none."""


def pairs_of_bids(root: Path) -> tuple[list[tuple[Scan, Path, Path]], int, int]:
    """Pair the images of a BIDS tree with their masks, by subject and session.

    Returns:
        Scan, image and mask of each pair; the number of images and of masks without a partner.

    Raises:
        MaskError: several images or masks of one scan.
    """
    images: dict[Scan, list[Path]] = defaultdict(list)
    masks: dict[Scan, list[Path]] = defaultdict(list)
    for path in sorted(filter(could_be_image, visible_files(root)), key=natural_key):
        stem = stem_of(path)
        told = _SUBJECT.match(stem)
        if told is None:
            continue
        scan = told[1], told[2] or _session_of(path)
        if stem.rpartition("_")[2].lower() in _MASK_SUFFIXES:
            masks[scan].append(path)
        elif _DERIVED not in path.relative_to(root).parts:
            images[scan].append(path)
    shared = sorted(images.keys() & masks.keys())
    _refuse_several("image", [images[scan] for scan in shared])
    _refuse_several("mask", [masks[scan] for scan in shared])
    paired = [(scan, images[scan][0], masks[scan][0]) for scan in shared]
    return paired, len(images) - len(paired), len(masks) - len(paired)


def _session_of(path: Path) -> str:
    """The session that only a folder tells."""
    return next((part for part in path.parts[:-1] if re.fullmatch(r"ses-[^_]+", part)), "")


def _refuse_several(kind: str, found: Sequence[Sequence[Path]]) -> None:
    several = [paths for paths in found if len(paths) > 1]
    if not several:
        return
    endings = endings_of(path for paths in several for path in paths)
    names = [str(path) for paths in several for path in paths]
    raise MaskError(
        f"{count_of(len(several), 'scan')} (subject and session) of this BIDS tree "
        f"{verb_of(len(several), 'has', 'have')} up to {max(map(len, several))} {kind}s"
        f"{endings}; one is read{listed(names)}.",
        "Give a CSV with the columns image and mask that names one of each scan.",
    )
