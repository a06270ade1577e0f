"""Who is in the data set."""

from __future__ import annotations

from collections import Counter

import pytest

from dinorad_rt.errors import DataError
from dinorad_rt.phantoms.plan import CT_CLASSES, REGIONS, plan_patients
from dinorad_rt.types import SPLITS


def test_half_of_each_split_falls_ill() -> None:
    plan = plan_patients(96, 0)
    for split in SPLITS:
        ill = [any(patient.xrays) for patient in plan if patient.split == split]
        assert 0.4 <= sum(ill) / len(ill) <= 0.6
    shares = Counter(patient.split for patient in plan)
    assert shares["test"] == pytest.approx(0.4 * 96, abs=2)
    assert shares["val"] == pytest.approx(0.2 * 96, abs=2)


@pytest.mark.parametrize("seed", [0, 1])
def test_every_split_of_the_default_set_has_every_class(seed: int) -> None:
    plan = plan_patients(96, seed)
    for split in SPLITS:
        mine = [patient for patient in plan if patient.split == split]
        assert {kind for p in mine for kinds in p.xrays for kind in kinds} == {
            "nodule",
            "opacity",
            "effusion",
        }
        assert {p.ct.label for p in mine if p.ct} == set(CT_CLASSES)
        assert {p.ct.region for p in mine if p.ct} == set(REGIONS)
        assert {tumour for p in mine for tumour in p.mr} == {False, True}


def test_the_region_does_not_give_the_finding_away() -> None:
    plan = plan_patients(96, 0)
    for region in REGIONS:
        labels = [p.ct.label != "normal" for p in plan if p.ct and p.ct.region == region]
        assert 0.3 <= sum(labels) / len(labels) <= 0.7


def test_several_studies_and_follow_ups() -> None:
    plan = plan_patients(96, 0)
    assert {len(patient.xrays) for patient in plan} == {1, 2, 3}
    assert any(len(patient.mr) == 2 for patient in plan)
    changed = [p for p in plan if len({bool(kinds) for kinds in p.xrays}) == 2]
    assert changed, "a patient who falls ill or recovers"


@pytest.mark.parametrize("count", [4, 5, 7])
def test_small_sets_still_have_both_classes_to_learn_and_to_test(count: int) -> None:
    for split in ("train", "test"):
        ill = {any(p.xrays) for p in plan_patients(count, 0) if p.split == split}
        assert ill == {False, True}


def test_too_few_patients_and_too_small_images_are_refused() -> None:
    with pytest.raises(DataError, match="3 patients.*both classes"):
        plan_patients(3, 0)
    with pytest.raises(DataError, match="32 pixels"):
        plan_patients(8, 0, 32)
