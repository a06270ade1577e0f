"""Messages lose the paths of the user's data, and nothing else."""

from __future__ import annotations

from pathlib import Path

from dinorad_rt.errors import UnreadableFileError
from dinorad_rt.identifiers import kept, listed, reason_of, without_paths


def test_paths_become_the_option_that_they_came_from(tmp_path: Path) -> None:
    folder = tmp_path / "Doe, Jane"
    (folder / "MR 1").mkdir(parents=True)
    (folder / "MR 1" / "a b.dcm").touch()
    arguments = ["eval", "--data", str(folder), "--out", str(tmp_path / "results")]
    assert without_paths(f"{folder} holds no images.", arguments) == "(--data) holds no images."
    text = f"Cannot read {folder}/MR 1/a b.dcm: it is cut short."
    assert without_paths(text, arguments) == "Cannot read (--data)/...: it is cut short."
    text = f"{folder}/gone.dcm does not exist; {folder}/MR 1/a b.dcm does."
    assert without_paths(text, arguments) == "(--data)/... does not exist; (--data)/... does."
    for gone in (
        "MR 1/Doe Jane 2.dcm",
        "MR 1/Doe",
        "MR 1/a b.dcm.gz",
        "none/Doe Jane.nii.gz",
        "Doe",
    ):
        text = f"{folder}/{gone} does not exist. See x.csv."
        assert without_paths(text, arguments) == "(--data)/... does not exist. See x.csv."
    for there in ("MR 1", "MR 1/a b.dcm"):
        text = f"{folder}/{there} holds no labels.csv."
        assert without_paths(text, arguments) == "(--data)/... holds no labels.csv."
    kept_text = f"Results lie in {tmp_path / 'results'}."
    assert without_paths(kept_text, arguments) == kept_text
    with kept():
        assert without_paths(text, arguments) == text


def test_every_spelling_of_a_path(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "jane").mkdir()
    (tmp_path / "jane" / "Doe.csv").write_text("image,label\n")
    monkeypatch.chdir(tmp_path)
    for text in (f"{tmp_path}/jane/x.dcm is odd", "jane/x.dcm is odd"):
        assert without_paths(text, ["inspect", "jane"]) == "(the path)/... is odd"
    assert without_paths("Doe.csv, line 3", ["--data=jane/Doe.csv"]) == "(--data), line 3"
    assert without_paths("Doe.csv, line 3", ["--data", "jane"]) == "the table, line 3"
    text = f"nothing below {tmp_path}/jane."
    assert (
        without_paths(text, ["--data", "jane/Doe.csv"]) == "nothing below (the folder of --data)."
    )
    assert without_paths("jane holds no jane", ["--data", "jane"]) == "(--data) holds no jane"


def test_names_are_listed_on_request() -> None:
    assert listed([]) == ""
    assert listed(["a"]) == " (--keep-identifiers names them)"
    with kept():
        assert listed(["a", "b"]) == ":\n  a\n  b"
        assert listed([str(i) for i in range(12)]).endswith("\n  9\n  ... and 2 more")


def test_reasons_hold_the_advice_and_no_path(tmp_path: Path) -> None:
    path = tmp_path / "Doe^John" / "IM0001.dcm"
    for text, wanted in (
        (f"Cannot read {path}: broken", "Cannot read the file: broken."),
        (f"{path}/series/7.dcm is empty.", "a file in it is empty."),
        ("IM0001.dcm has no pixels", "the file has no pixels."),
    ):
        found = reason_of(UnreadableFileError(text, f"Repair {path}\n  and repeat."), path)
        assert found == f"{wanted} Repair the file and repeat."
        assert reason_of(UnreadableFileError(text), path) == wanted.removesuffix(
            "" if text.endswith(".") else "."
        )
    assert reason_of(ValueError("x\n  y"), path) == "ValueError: x y"
    long = reason_of(UnreadableFileError("x" * 1000, "Fetch it again."), path)
    assert len(long) < 350 and long.endswith("Fetch it again.")


def test_names_of_our_own_files_may_be_said(tmp_path: Path) -> None:
    for name in ("results.json", "smith.csv"):
        (tmp_path / name).touch()
    text = without_paths("holds no results.json, but smith.csv", ["inspect", str(tmp_path)])
    assert text == "holds no results.json, but the table"
    index = "model.safetensors.index.json"
    (tmp_path / index).touch()
    text = f"The weights in {index} do not fit; smith.csv"
    assert without_paths(text, ["--weights", str(tmp_path)]) == text
    beside = without_paths(text, ["--weights", str(tmp_path), "--data", str(tmp_path)])
    assert "smith" not in beside


def test_our_own_paths_stay_named_beside_data(tmp_path: Path) -> None:
    study, out, images = tmp_path / "s.toml", tmp_path / "out", tmp_path / "images"
    study.touch()
    for folder in (out, images):
        folder.mkdir()
    (images / "smith.png").touch()
    text = f"{out} is not empty; {images}/smith.png; {out}/results.json; {out}"
    told = without_paths(text, ["eval", "--study", str(study), "--out", str(out)])
    hidden = "(the folder of --study)/..."
    assert told == f"{out} is not empty; {hidden}; {out}/results.json; {out}"
    given = ["eval", f"--out={tmp_path}", "--data", str(images)]
    assert (
        without_paths(text, given) == f"{out} is not empty; (--data)/...; {out}/results.json; {out}"
    )
    same = ["eval", "--out", str(images), "--data", str(images)]
    assert "smith" not in without_paths(text, same)


def test_a_slash_alone_makes_no_path() -> None:
    text = "--shard '3/2' is not i/n"
    assert without_paths(text, ["embed", "--shard", "3/2"]) == text


def test_folders_of_runs_are_our_own_and_named(tmp_path: Path) -> None:
    text = f"{tmp_path} holds no results.json"
    assert without_paths(text, ["compare", str(tmp_path), "b"]) == text
    assert without_paths(text, ["inspect", str(tmp_path)]) == "(the path) holds no results.json"
    given = ["report", "runs", "--data", str(tmp_path)]
    assert without_paths(text, given) == "(--data) holds no results.json"
