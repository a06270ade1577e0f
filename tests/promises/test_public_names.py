"""The names users import are complete, sorted and importable."""

from __future__ import annotations

import dinorad_rt
from dinorad_rt import api


def test_package_and_api_promise_the_same_names() -> None:
    assert dinorad_rt.__all__ == api.__all__


def test_names_are_sorted() -> None:
    assert dinorad_rt.__all__ == sorted(dinorad_rt.__all__)


def test_every_name_resolves_and_has_a_docstring() -> None:
    for name in dinorad_rt.__all__:
        member = getattr(dinorad_rt, name)
        assert member.__doc__, name
        assert name in dir(dinorad_rt)
