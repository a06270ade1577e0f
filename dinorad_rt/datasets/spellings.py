"""One name for one thing: names that differ only in case, blanks or Unicode form are one class."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence


def one_spelling(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Write each name as it is written most often.

    Args:
        names: one per sample or finding.

    Returns:
        The names, and what to say where several spellings were joined.
    """
    groups: dict[str, Counter[str]] = defaultdict(Counter)
    for name, count in Counter(names).items():
        groups[folded(name)][name] += count
    best = {key: max(sorted(found), key=found.__getitem__) for key, found in groups.items()}
    joined = [
        f"{', '.join(sorted(found))} are one class, written {best[key]}"
        for key, found in groups.items()
        if len(found) > 1
    ]
    return [best[folded(name)] for name in names], joined


def folded(name: str) -> str:
    """The name without what spellings of it differ in."""
    return " ".join(unicodedata.normalize("NFC", name).casefold().split())
