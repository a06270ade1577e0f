"""Groups numbered in the order in which they appear.

Patients and samples go by keyed hashes, whose order is another one on every machine. What is drawn
by number, such as the resamples of a bootstrap, must not depend on it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Groups:
    """Rows by group.

    Attributes:
        keys: (groups,) the key of each, in the order of first appearance.
        first: (groups,) the first row of each, ascending.
        index: (rows,) the number of each row's group.
    """

    keys: np.ndarray
    first: np.ndarray
    index: np.ndarray

    def __len__(self) -> int:
        """Number of groups."""
        return len(self.keys)


def by_appearance(keys: np.ndarray) -> Groups:
    """Number the different keys from 0 on, in the order in which they first appear.

    Args:
        keys: (rows,) anything that can be sorted.
    """
    names, first, index = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return Groups(names[order], first[order], place[index])
