"""The study file: what it may hold, and how it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from dinorad_rt.backbones.registry import list_specs
from dinorad_rt.campaign import list_studies, read_study_file
from dinorad_rt.errors import StudyError, UnknownNameError

GOOD = """
[[models]]
name = "vits14"
[[datasets]]
dataset = "phantom"
[[protocols]]
protocol = "knn"
"""


def read(tmp_path: Path, text: str) -> object:
    path = tmp_path / "s.toml"
    path.write_text(text)
    return read_study_file(path)


def test_defaults_reach_every_entry(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").touch()
    study = read(
        tmp_path,
        'root = "."\n[defaults]\nbackend = "openvino"\npreprocessing = "study"\nseeds = [3]\n'
        + GOOD.replace('"vits14"', '"vits14"\nweights = "w.safetensors"\nbackend = "pytorch"'),
    )
    assert study.models[0].backend == "pytorch"  # type: ignore[attr-defined]
    assert Path(study.models[0].weights).samefile(tmp_path / "w.safetensors")  # type: ignore[attr-defined]
    assert study.protocols[0].preprocessing == "study"  # type: ignore[attr-defined]
    assert study.protocols[0].seeds == (3,)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD.replace("models", "modles"), "'modles' (closest: models)"),
        (GOOD.replace("protocol =", "protokol ="), "closest: protocol"),
        (GOOD.replace('"vits14"', '"vits41"'), "vits14"),
        (GOOD.replace('"knn"', '"knnn"'), "knn"),
        (GOOD.replace('"phantom"', '"phantm"'), "phantom"),
        (GOOD.replace('"vits14"', '"vits14"\nweights = "no/file.pth"'), "does not exist"),
        (GOOD.replace('"vits14"', '"vits14"\nimage_size = "224"'), "not a whole number"),
        (GOOD.replace('"knn"', '"knn"\nseeds = []'), "seeds is empty"),
        (GOOD.replace('"knn"', '"knn"\nsettings = { kss = [5] }'), "ks"),
        (GOOD.replace('"knn"', '"knn"\nsettings = { temperature = -1.0 }'), "temperature"),
        (GOOD.replace('"knn"', '"knn"\nmodels = ["vits15"]'), "vits14"),
        (GOOD.replace('"knn"', '"knn"\ntasks = ["binry"]'), "binary"),
        (GOOD.replace('"knn"', '"knn"\npreset = "paper"'), "preset"),
        (GOOD.replace('"knn"', '"knn"\npreprocessing = "studdy"'), "study"),
        (GOOD.replace('dataset = "phantom"', 'name = "x"'), "either data"),
        (GOOD + '[[datasets]]\ndataset = "phantom"\n', "two datasets"),
        (GOOD.replace("dataset =", 'data = "."\ndataset ='), "[[datasets]] 1: Both data"),
        (GOOD.replace('dataset = "phantom"', 'data = "."\nroot = "."'), "Leave root out"),
        (GOOD.replace('"phantom"', '"phantom"\nlabel_column = "x"'), "label_column: a table"),
        (GOOD.replace('"vits14"', '"vits14"\nprecision = "fp17"'), "Closest: fp16"),
        (GOOD.replace('"vits14"', '"vits14"\nbackend = "openvina"'), "Closest: openvino"),
        (GOOD.replace('"vits14"', '"vits14"\nprofile = "defautl"'), "Closest: default"),
        (GOOD.replace('"vits14"', '"vits14"\nimage_size = 9000'), "not within 14 to 8192"),
        (GOOD.replace('"knn"', '"knn"\nseeds = [-1]'), "seeds = -1 is not within 0 to"),
        (GOOD.replace('"knn"', '"knn"\npreprocessing = "dinorad:lnug"'), "lung"),
        (
            GOOD + '[[datasets]]\nname = "ours"\ndata = "gone"\n',
            "[[datasets]] 2 (ours), data: ",
        ),
        ("title = 3\n" + GOOD, "not a text"),
        ("", "no [[models]]"),
        ("[[models]\n", "cannot be read"),
    ],
)
def test_a_bad_file_is_refused_with_what_is_right(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(StudyError) as error:
        read(tmp_path, text)
    assert words in str(error.value)


def test_presets_may_have_options(tmp_path: Path) -> None:
    study = read(tmp_path, GOOD.replace('"knn"', '"knn"\npreprocessing = "dinorad:lung"'))
    assert study.protocols[0].preprocessing == "dinorad:lung"  # type: ignore[attr-defined]


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    with pytest.raises(StudyError) as error:
        read(tmp_path, GOOD.replace('"vits14"', '"vits41"').replace('"knn"', '"knnn"'))
    assert str(error.value).count("\n  - ") == 2


def test_unknown_studies_are_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="does not exist"):
        read_study_file(tmp_path / "none.toml")
    with pytest.raises(UnknownNameError, match="paper-classification"):
        read_study_file("paper-clasification")


def test_the_paper_s_classification_part_ships_and_is_valid() -> None:
    assert "paper-classification" in list_studies()
    study = read_study_file("paper-classification")
    assert {model.name for model in study.models} == {s.name for s in list_specs() if s.in_study}
    assert {data.dataset for data in study.datasets} == {
        *("nih-chestxray14", "chexpert", "sars-cov-2-ct", "brain-tumor")
    }
    assert {protocol.preset for protocol in study.protocols} == {"study"}
    assert {"knn", "mlknn", "linear", "few-shot"} <= {item.protocol for item in study.protocols}
