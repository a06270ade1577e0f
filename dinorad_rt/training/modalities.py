"""Which DICOM modalities a model was trained on, and whether other files are of these."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dinorad_rt.studies.names import visible_files
from dinorad_rt.studies.series import read_slice_header
from dinorad_rt.words import count_of, verb_of

if TYPE_CHECKING:
    from dinorad_rt.datasets.dataset import Sample

LOOKED_AT = 64
"""Training files whose headers are read, evenly spread."""
_RADIOGRAPHS = frozenset({"CR", "DX", "RG"})
"""Two ways to take the same picture, and a film that was scanned."""


def modalities_of(samples: Sequence[Sample]) -> list[str]:
    """DICOM modalities of some samples, the commonest first; other files name none."""
    chosen = np.unique(np.linspace(0, len(samples) - 1, min(len(samples), LOOKED_AT)).astype(int))
    found: Counter[str] = Counter()
    for index in chosen:
        path = samples[index].path
        if path.is_dir():
            path = next(iter(visible_files(path)), path)
        header = read_slice_header(path)
        if header is not None and header.modality:
            found[header.modality] += 1
    return [name for name, _ in found.most_common()]


def other_modalities(trained: Sequence[str], given: Iterable[str | None]) -> str:
    """What to say of files of other modalities than those of training; empty if there are none.

    Args:
        trained: from `modalities_of`; empty where it is not known.
        given: of each file, None where it names none.
    """
    every = list(given)
    known = {_kind(name) for name in trained}
    strange = Counter(name for name in every if name and _kind(name) not in known)
    if not known or not strange:
        return ""
    count = sum(strange.values())
    named = ", ".join(name for name, _ in strange.most_common())
    return (
        f"trained on {', '.join(trained)}; {count} of {count_of(len(every), 'item')} "
        f"{verb_of(count, 'is', 'are')} {named}: nothing is known of its answers there"
    )


def _kind(modality: str) -> str:
    return "radiograph" if modality in _RADIOGRAPHS else modality
