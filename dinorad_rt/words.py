"""Words of messages: one image, two images."""

from __future__ import annotations


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """`1 image`, `2 images`; `plural` for nouns that take more than an s.

    A noun of several words takes it at the end: `counted(2, "test image")`.
    """
    if count == 1:
        return f"1 {noun}"
    if plural is None:
        plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
        if noun.endswith(("s", "x", "ch", "sh")):
            plural = f"{noun}es"
    return f"{count} {plural}"
