"""What only embeddings can show: values that are not finite, and copies across splits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from dinorad_rt.errors import ProtocolError
from dinorad_rt.progress import Stages, unseen
from dinorad_rt.protocols.neighbours import neighbours
from dinorad_rt.types import Split

if TYPE_CHECKING:
    from dinorad_rt.embeddings.table import EmbeddingTable

NEAR_COPY = 0.995
"""Cosine of class tokens from which two images may be near copies. Measured with DeiT-tiny on MRI
and CT: JPEG at quality 75 gives 0.996 or more for nine images in ten, while the nearest images
across splits of four real sets lie at 0.92 to 0.986."""
_TIMES_NEARER = 20
"""And a copy is so many times nearer than the median test image's nearest neighbour: all images
lie close together for some backbones, such as those with random weights."""
_ROUNDING = 1e-6
"""Cosine distance of equal images by rounding alone."""
_LISTED = 5


def finite_rows(table: EmbeddingTable) -> np.ndarray:
    """(rows,) bool: all values are finite, and the last class token is not zero."""
    fine = np.isfinite(table.cls).all(axis=(1, 2)) & (table.cls[:, -1] != 0).any(axis=1)
    if table.patch_mean is not None:
        fine &= np.isfinite(table.patch_mean).all(axis=1)
    return np.asarray(fine)


def check_finite(
    tables: Mapping[Split, EmbeddingTable], fine: Mapping[Split, np.ndarray] | None = None
) -> None:
    """Refuse embeddings that are not finite, or zero.

    Args:
        tables: split → rows.
        fine: what `finite_rows` said of them, where the tables do not hold every value any more.

    Raises:
        ProtocolError: with their number per split, and the first rows and sample ids.
    """
    for split, table in tables.items():
        bad = np.flatnonzero(~(finite_rows(table) if fine is None else fine[split]))
        if len(bad):
            listed = ", ".join(f"row {row} ({table.sample_ids[row]})" for row in bad[:_LISTED])
            more = f" and {len(bad) - _LISTED} more" if len(bad) > _LISTED else ""
            raise ProtocolError(
                f"{len(bad)} of {len(table)} {split} embeddings are not finite, or zero: "
                f"{listed}{more}.",
                "Look at these images (dinorad-rt inspect), or embed at another precision: "
                "--precision fp32",
            )


def near_copies(
    tables: Mapping[Split, EmbeddingTable], threshold: float = NEAR_COPY, stages: Stages = unseen
) -> list[str]:
    """What to say of test images whose embedding nearly equals one of another split.

    Args:
        tables: split → rows.
        threshold: cosine from which a pair counts, if it is much nearer than pairs usually are.
        stages: told of the search.
    """
    test = tables["test"]
    notes = []
    for split in ("train", "val"):
        other = tables[split]
        if not len(other) or not len(test):
            continue
        with stages(f"looking for copies in {split}", "images") as progress:
            similarity, index = neighbours(test.cls[:, -1], other.cls[:, -1], 1, progress=progress)
        distance = 1 - similarity[:, 0]
        usual = float(np.median(distance)) / _TIMES_NEARER
        copies = np.flatnonzero(distance <= max(min(1 - threshold, usual), _ROUNDING))
        if len(copies):
            pairs = ", ".join(
                f"{test.sample_ids[row]} ~ {other.sample_ids[index[row, 0]]}"
                for row in copies[:_LISTED]
            )
            notes.append(
                f"LEAKAGE? {len(copies)} of {len(test)} test images have a copy or near copy in "
                f"{split} (cosine of class tokens {similarity[copies, 0].min():.4f} or more), such "
                f"as {pairs}: results may be too good. Look at the pairs, and give copies one "
                "patient in the table."
            )
    return notes
