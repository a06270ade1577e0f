"""`eval`: how options become settings, and what is refused before any file is read."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from dinorad_rt.cli.evaluate import given, parse_numbers, parse_settings
from dinorad_rt.cli.verbs import app
from dinorad_rt.errors import ProtocolError, UnknownNameError
from dinorad_rt.protocols.registry import PROTOCOLS


def test_lists_of_numbers() -> None:
    assert parse_numbers("--k", "20,5, 5") == (5, 20)
    assert parse_numbers("--k", None) is None
    with pytest.raises(ProtocolError, match="--shots '1,two'"):
        parse_numbers("--shots", "1,two")


def test_settings_have_the_type_of_their_field() -> None:
    found = parse_settings(
        ["learning-rates=0.1,0.01", "retrain=no", "epoch_length=none", "loss=study"], "linear"
    )
    assert found == {
        "learning_rates": (0.1, 0.01),
        "retrain": False,
        "epoch_length": None,
        "loss": "study",
    }
    assert given({"a": None, "b": 0}) == {"b": 0}


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        (["--protocol", "kn"], UnknownNameError, "knn"),
        (["--protocol", "linear", "--k", "5"], UnknownNameError, "setting 'ks'"),
        (["--protocol", "few-shot", "--head", "tree"], ProtocolError, "knn, linear, logistic"),
        (["--protocol", "few-shot", "--shots", "0"], ProtocolError, "positive whole numbers"),
        (["--set", "temperature"], ProtocolError, "has no ="),
        (["--set", "temperature=hot"], ProtocolError, "cannot be read"),
        (["--set", "temperature=-1"], ProtocolError, "above 0"),
        (["--set", "pooling=attention"], ProtocolError, "linear"),
        (["--protocol", "logistic", "--set", "select_by=f2"], ProtocolError, "one of auroc"),
    ],
)
def test_what_cannot_be_asked_is_refused_at_once(
    arguments: list[str], error: type[Exception], match: str
) -> None:
    done = CliRunner().invoke(app, ["eval", "--data", "/nowhere", *arguments])
    assert isinstance(done.exception, error), done.output
    with pytest.raises(error, match=match):
        raise done.exception


def test_protocols_are_listed_with_their_settings() -> None:
    done = CliRunner().invoke(app, ["list", "protocols"])
    assert done.exit_code == 0
    for name in PROTOCOLS:
        assert name in done.output
    assert "temperature=0.07" in done.output
