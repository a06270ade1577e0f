"""The estimate of a study is plain arithmetic on what was measured."""

from __future__ import annotations

import pytest

from dinorad_rt.campaign.cells import Cell
from dinorad_rt.campaign.estimate import Estimate, estimate
from dinorad_rt.campaign.study import Data
from dinorad_rt.evaluation import Evaluation
from dinorad_rt.pipeline import EngineRequest
from dinorad_rt.words import duration


def cell(model: str, protocol: str = "knn", data: str = "a", images: int = 100) -> Cell:
    evaluation = Evaluation(EngineRequest(model=model), protocol=protocol)
    return Cell(Data(data, None, data, None), evaluation, f"{model}{protocol}{data}", images)


def took(seconds: float, engine: float, embed: float) -> dict[str, float]:
    return {"seconds": seconds, "engine_s": engine, "embed_s": embed}


def test_nothing_is_known_before_the_first_cell() -> None:
    found = estimate([cell("m"), cell("m", data="b")], [])
    assert (found.seconds, found.unknown) == (0, 5)
    assert str(found) == "how long is known after the first cells"


def test_rates_of_finished_cells_carry_over() -> None:
    done = [(cell("m"), took(20, 10, 8)), (cell("m", "linear"), took(5, 0.2, 0.1))]
    # the same model on twice the images: embedding 16 s, kNN 4 s, linear 9.4 s
    left = [cell("m", data="b", images=200), cell("m", "linear", "b", 200)]
    assert estimate(left, done).seconds == pytest.approx(16 + 4 + 9.4)
    # a new model: an engine as long as the known one, embedding at the mean rate, kNN 2 s
    assert estimate([cell("n")], done).seconds == pytest.approx(10 + 8 + 2)
    # embeddings of the cache cost nothing
    assert estimate(left, done, [left[0].embeds]).seconds == pytest.approx(4 + 9.4)


def test_a_protocol_that_never_ran_is_said() -> None:
    done = [(cell("m"), took(20, 10, 8))]
    found = estimate([cell("m", "logistic")], done)
    assert (found.seconds, found.unknown) == (0, 1)
    assert str(Estimate(30.0, 2)) == "about 30 s, and 2 steps of a kind not measured yet"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (89, "89 s"), (600, "10 min"), (7200, "2.0 h"), (864000, "10.0 days")],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words
