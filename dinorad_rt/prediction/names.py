"""Names of a bundle's classes: those of the run, or readable ones in their place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from dinorad_rt.errors import BundleError

_EXAMPLES = "in order (--class-names background,liver,tumour), or single ones (60=liver,255=tumour)"


def class_names_for(data: Mapping[str, Any], wanted: Sequence[str]) -> tuple[str, ...]:
    """New names of the classes of a run, in the order of the run.

    Args:
        data: what train.json says of the classes, see `mask_classes.class_facts`.
        wanted: a name per class in their order, or `OLD=NEW` for single classes, OLD being the
            name in the run or the value in its masks.

    Raises:
        BundleError: another number of names, an unknown or ambiguous OLD, an empty name, or one
            name for two classes.
    """
    known = list(map(str, data["class_names"]))
    pairs = [word.partition("=") for word in wanted]
    if any(equals for _, equals, _ in pairs):
        names = _renamed(data, known, pairs)
    elif len(wanted) == len(known):
        names = list(wanted)
    else:
        raise BundleError(
            f"--class-names gives {len(wanted)} names for {len(known)} classes.",
            f"The run has, in this order: {', '.join(known)}. Give all {_EXAMPLES}.",
        )
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise BundleError(
            f"--class-names gives more than one class the name {', '.join(twice)}.",
            "Give each class a name of its own.",
        )
    return tuple(names)


def _renamed(
    data: Mapping[str, Any], known: Sequence[str], pairs: Sequence[tuple[str, str, str]]
) -> list[str]:
    names, changed = list(known), set[int]()
    for old, equals, new in ((one.strip(), sign, two.strip()) for one, sign, two in pairs):
        if not (old and equals and new) or "=" in new:
            raise BundleError(
                f"--class-names has {old + equals + new!r}, which is no OLD=NEW.",
                f"Give all {_EXAMPLES}, not both.",
            )
        index = _index(data, known, old)
        if index in changed:
            raise BundleError(
                f"--class-names names the class {known[index]} twice.", "Name each class once."
            )
        names[index] = new
        changed.add(index)
    return names


def _index(data: Mapping[str, Any], known: Sequence[str], old: str) -> int:
    values = [str(value) for value in data.get("mask_values") or ()]
    found = {group.index(old) for group in (known, values) if old in group}
    if len(found) == 1:
        return found.pop()
    stored = f" with the values {', '.join(values)} in its masks" if values else ""
    if found:
        first, second = (known[index] for index in sorted(found))
        raise BundleError(
            f"--class-names has {old}, which is the name of one class and the value of another: "
            f"{first}, {second}.",
            f"Give all names in order. The run has {', '.join(known)}{stored}.",
        )
    raise BundleError(
        f"--class-names has {old}, which the run does not know.",
        f"The run has the classes {', '.join(known)}{stored}.",
    )
