"""New names of a run's classes: in order or by name and value, and what cannot be meant."""

from __future__ import annotations

import pytest

from dinorad_rt.errors import BundleError
from dinorad_rt.prediction.names import class_names_for

MASKS = {"class_names": ["background", "class 60", "class 255"], "mask_values": [0, 60, 255]}
LABELS = {"class_names": ["0", "1", "2"]}


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (("background", "liver", "tumour"), ("background", "liver", "tumour")),
        (("60=liver", "255=tumour"), ("background", "liver", "tumour")),
        (("class 255 = tumour",), ("background", "class 60", "tumour")),
        (("class 60=class 255", "255=class 60"), ("background", "class 255", "class 60")),
    ],
)
def test_names_come_in_order_or_by_name_and_value(
    wanted: tuple[str, ...], names: tuple[str, ...]
) -> None:
    assert class_names_for(MASKS, wanted) == names


def test_classes_without_masks_go_by_name() -> None:
    assert class_names_for(LABELS, ("2=mass", "0=none")) == ("none", "1", "mass")


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        (("liver", "tumour"), "2 names for 3 classes"),
        (("a", "b", "b"), "more than one class the name b"),
        (("60=background",), "more than one class the name background"),
        (("60=liver", "tumour"), "'tumour', which is no OLD=NEW"),
        (("60=",), "'60=', which is no OLD=NEW"),
        (("60=a=b",), "no OLD=NEW"),
        (("61=liver",), "61, which the run does not know"),
        (("60=liver", "class 60=spleen"), "class 60 twice"),
    ],
)
def test_what_cannot_be_meant_is_refused(wanted: tuple[str, ...], problem: str) -> None:
    with pytest.raises(BundleError, match=problem):
        class_names_for(MASKS, wanted)


def test_a_name_that_is_the_value_of_another_class_is_refused() -> None:
    data = {"class_names": ["background", "2", "1"], "mask_values": [0, 1, 2]}
    with pytest.raises(BundleError, match="value of another: 2, 1"):
        class_names_for(data, ("1=liver",))
