"""Who is in the data set: patients, their studies, what is wrong with them, and their split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dinorad_rt.errors import DataError
from dinorad_rt.phantoms.draws import Draws
from dinorad_rt.phantoms.xray_findings import XrayKind
from dinorad_rt.types import Split

CTClass = Literal["normal", "bleed", "lung mass", "liver lesion"]
CT_CLASSES: tuple[CTClass, ...] = ("normal", "bleed", "lung mass", "liver lesion")
Region = Literal["head", "chest", "abdomen"]
REGIONS: tuple[Region, ...] = ("head", "chest", "abdomen")

MINIMUM_PATIENTS = 4
MINIMUM_SIZE = 64

_SPLIT_CYCLE: tuple[Split, ...] = ("train", "test", "train", "val", "test")

_COURSES: dict[bool, tuple[tuple[tuple[XrayKind, ...], ...], ...]] = {
    False: (((), ()), ((),), ((), (), ()), ((), ())),
    True: (
        (("opacity",), ("opacity",), ()),
        (("effusion",), ("effusion",)),
        ((), ("nodule",), ("nodule",)),
        (("opacity", "effusion"), ("opacity",)),
        (("nodule",),),
        ((), ("effusion",)),
        (("opacity",), ("opacity",), ("opacity",)),
        (("nodule", "opacity"),),
        (("effusion",), (), ()),
        (("nodule",), ("nodule", "effusion")),
    ),
}
"""Is the patient ever ill → courses: findings in the chest X-ray of each study."""


@dataclass(frozen=True)
class CTSeries:
    """One CT volume: region and class."""

    region: Region
    label: CTClass


@dataclass(frozen=True)
class Patient:
    """One invented patient.

    Attributes:
        number: from 1.
        female: sex.
        birth_year: invented.
        split: the same for every image of the patient.
        xrays: findings per study.
        ct: the CT of the first study, or None.
        mr: tumour or not, per MR study; empty for none.
    """

    number: int
    female: bool
    birth_year: int
    split: Split
    xrays: tuple[tuple[XrayKind, ...], ...]
    ct: CTSeries | None
    mr: tuple[bool, ...]

    @property
    def key(self) -> str:
        """What the tables and folders call the patient."""
        return f"p{self.number:03d}"


def plan_patients(count: int, seed: int, size: int = MINIMUM_SIZE) -> tuple[Patient, ...]:
    """Plan a data set: half of the patients fall ill, and each split gets its share of all.

    Args:
        count: number of patients.
        seed: decides who is who.
        size: rows of an X-ray; refused if too small to show anything.

    Raises:
        DataError: too few patients for splits that hold both classes, or too small images.
    """
    if size < MINIMUM_SIZE:
        raise DataError(
            f"Phantoms of {size} pixels were asked for: nothing could be seen on them.",
            f"Ask for an image size of {MINIMUM_SIZE} or more.",
        )
    if count < MINIMUM_PATIENTS:
        raise DataError(
            f"Phantoms of {count} patients were asked for: no split could hold both classes.",
            f"Ask for {MINIMUM_PATIENTS} patients or more.",
        )
    order = sorted(range(count), key=lambda i: Draws(seed, "order", i).uniform(0, 1))
    ranks = {number: rank for rank, number in enumerate(order)}
    return tuple(_patient(number + 1, ranks[number], seed) for number in range(count))


def _patient(number: int, rank: int, seed: int) -> Patient:
    """Plan a patient by rank: ranks walk through illness, splits, courses, CT and MR in turn."""
    draws = Draws(seed, "plan", number)
    ill, place = rank % 2 == 1, rank // 2
    turn, slot = divmod(place, len(_SPLIT_CYCLE))
    courses = _COURSES[ill]
    return Patient(
        number=number,
        female=draws.chance(0.5),
        birth_year=draws.whole(1931, 1989),
        split=_SPLIT_CYCLE[slot],
        xrays=courses[(turn + 3 * slot) % len(courses)],
        ct=_ct_of(2 * turn + ill, slot),
        mr=_mr_of(2 * turn + ill, slot),
    )


def _ct_of(count: int, slot: int) -> CTSeries | None:
    """Three patients in eight have a CT; half of these show the finding of their region."""
    number = _chosen(count, (0, 3, 5))
    if number is None:
        return None
    region = REGIONS[(number + slot) % 3]
    finding: CTClass = CT_CLASSES[1 + REGIONS.index(region)]
    return CTSeries(region, finding if (number // 3 + (slot in (2, 4))) % 2 else "normal")


def _mr_of(count: int, slot: int) -> tuple[bool, ...]:
    """Three patients in eight have MR; half of these a tumour; every third comes back."""
    number = _chosen(count, (1, 2, 6))
    if number is None:
        return ()
    tumour = (number + slot) % 2 == 1
    return (tumour, tumour) if (number + slot) % 3 == 0 else (tumour,)


def _chosen(count: int, places: tuple[int, ...]) -> int | None:
    """Number among those chosen, three of each eight; None for the others."""
    eight, place = divmod(count, 8)
    return len(places) * eight + places.index(place) if place in places else None
