"""Seeds of places: the same in every run and version, else a resumed run is another one."""

from __future__ import annotations

from itertools import product

from dinorad_rt.training.seeds import seed_of


def test_seeds_are_those_of_earlier_versions() -> None:
    # printf '(0, 1, -1)' | sha256sum, the first 14 digits
    assert seed_of(0, 1, -1) == 0xC97C374B7C54A7


def test_places_have_seeds_of_their_own() -> None:
    places = list(product(range(3), range(10), range(50)))
    assert len({seed_of(*place) for place in places} | {seed_of(1, 2)}) == len(places) + 1
    assert all(0 <= seed_of(*place) < 2**63 for place in places)  # what torch takes
