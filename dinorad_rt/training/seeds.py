"""Seeds without a state: what is random at a place follows from the place alone."""

from __future__ import annotations

import hashlib


def seed_of(*place: int) -> int:
    """A seed of 56 bits that is a function of its arguments alone, such as seed, epoch, batch."""
    return int.from_bytes(hashlib.sha256(repr(place).encode()).digest()[:7], "big")
