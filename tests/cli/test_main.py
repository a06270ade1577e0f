"""Messages and exit codes of the program as a user meets them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from dinorad_rt.cli import console
from dinorad_rt.cli.embed import parse_shard, take_own_gpu
from dinorad_rt.cli.evaluate import parse_numbers
from dinorad_rt.cli.verbs import app
from dinorad_rt.errors import DinoradError, OutputError, ProtocolError
from dinorad_rt.paths import cache_dir
from tests.reports.fake_runs import fake_run

Program = Callable[..., subprocess.CompletedProcess[str]]


def test_version(program: Program) -> None:
    import dinorad_rt

    assert program("--version").stdout.strip() == f"dinorad-rt {dinorad_rt.__version__}"


def test_unknown_model_names_the_closest(program: Program, cache: Path) -> None:
    done = program("export", "--model", "vitl41")
    assert done.returncode == 2
    assert "vitl14" in done.stderr
    assert "dinorad-rt list models" in done.stderr
    assert "Traceback" not in done.stderr


def test_unknown_option_value_is_a_user_error(program: Program) -> None:
    done = program("eval", "--protocol", "knm")
    assert done.returncode == 2
    assert "knn" in done.stderr


def test_empty_folder_is_a_user_error(program: Program, cache: Path, tmp_path: Path) -> None:
    folder = tmp_path / "nothing"
    folder.mkdir()
    done = program("eval", "--weights", "random", "--data", str(folder))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "Fix:" in done.stderr


def test_data_and_dataset_exclude_each_other(program: Program, cache: Path, tmp_path: Path) -> None:
    done = program("eval", "--data", str(tmp_path), "--dataset", "phantom")
    assert done.returncode == 2
    assert "one of the two" in done.stderr


@pytest.mark.parametrize(("text", "ks"), [("5", (5,)), ("20, 5,5", (5, 20)), (None, None)])
def test_parse_numbers(text: str | None, ks: tuple[int, ...] | None) -> None:
    assert parse_numbers("--k", text) == ks


@pytest.mark.parametrize("text", ["", "0", "5,x", "-1", "1.5"])
def test_parse_numbers_refuses(text: str) -> None:
    with pytest.raises(ProtocolError, match="whole numbers"):
        parse_numbers("--k", text)


def test_parse_shard_reads_slurm_and_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_shard(None) == (0, 1)
    assert parse_shard("2/4") == (2, 4)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert parse_shard("auto") == (1, 3)
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "5")
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "8")
    assert parse_shard("auto") == (5, 8)


@pytest.mark.parametrize("text", ["4/4", "x", "1/0", "-1/2"])
def test_parse_shard_refuses(text: str) -> None:
    with pytest.raises(DinoradError, match="i/n"):
        parse_shard(text)


def test_an_interruption_says_that_the_command_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from dinorad_rt.cli import listing, main

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(listing._LISTERS, "models", interrupted)
    monkeypatch.setattr("sys.argv", ["dinorad-rt", "list", "models"])
    with pytest.raises(SystemExit) as stopped:
        main.main()
    assert stopped.value.code == 130
    assert "Run the same command again" in capsys.readouterr().err


SIGNALLED = """
import os, signal, sys, time
from pathlib import Path
from dinorad_rt.cli import listing, main
from dinorad_rt.files import atomic_path, claim_output_dir

number, out = getattr(signal, sys.argv[1]), Path(sys.argv[2])
signal.signal(number, signal.SIG_DFL)  # under nohup the tests themselves ignore it

def interrupted():
    claim_output_dir(out, "facts.json")
    try:
        with atomic_path(out / "facts.json"):
            os.kill(os.getpid(), number)
            time.sleep(60)
    finally:
        os.kill(os.getpid(), number)  # a second one, while it clears up

listing._LISTERS["models"] = interrupted
sys.argv = ["dinorad-rt", "list", "models"]
main.main()
"""


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_that_stops_is_an_interruption(tmp_path: Path, name: str, code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SIGNALLED, name, str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert done.stderr.strip() == "Stopped. Run the same command again: finished parts are kept."
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(
    ("verb", "option"),
    [
        (("compare", "a", "b"), "--margin"),
        (("bench",), "--seconds"),
        (("bench",), "--cool-down"),
        (("bundle", "a", "--out", "b"), "--least"),
        (("train",), "--lr"),
        (("train",), "--ema"),
    ],
)
def test_numbers_of_options_are_finite(verb: tuple[str, ...], option: str, number: str) -> None:
    done = CliRunner().invoke(app, [*verb, option, number])
    assert done.exit_code == 2
    assert option in done.output


@pytest.mark.parametrize(
    "words",
    [
        ("eval", "--seed", str(2**32)),
        ("eval", "--image-size", "99999999"),
        ("compare", "a", "b", "--resamples", "99999999999"),
    ],
)
def test_numbers_that_nothing_could_carry_out_are_refused(words: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 2 and "is not in the range" in done.output


@pytest.mark.parametrize("text", ["²", "٣x", "1,²"])
def test_digits_that_make_no_number_are_refused(text: str) -> None:
    with pytest.raises(ProtocolError, match="whole numbers"):
        parse_numbers("--k", text)


@pytest.mark.parametrize(
    "words",
    [
        ("eval", "--data", ""),
        ("eval", "--out", " "),
        ("report", ""),
        ("compare", "a", ""),
        ("inspect", ""),
        ("eval", "--weights", ""),
        ("eval", "--study", ""),
        ("predict", "bundle", "", "--out", "x"),
    ],
)
def test_an_empty_path_is_not_the_current_folder(words: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 2 and "is empty" in done.output


def test_the_home_folder_is_known_in_every_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    fake_run(tmp_path / "runs")
    done = CliRunner().invoke(app, ["report", "~/runs", "--out=~/page"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "page" / "report.html").exists() and not (tmp_path / "~").exists()


def test_a_terminal_that_cannot_show_a_letter_still_gets_the_rest(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    done = program("list", "presets")
    assert done.returncode == 0, done.stderr
    assert "dinorad:lung" in done.stdout


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colours_may_be_unwanted(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    shown: list[str] = []
    monkeypatch.setattr(typer, "echo", lambda text, **_: shown.append(text))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    console.warn("mind")
    monkeypatch.setenv(name, value)
    console.warn("mind")
    assert "\x1b[" in shown[0] and shown[1] == "! mind"


def test_a_user_without_a_home_is_told_how_to_name_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def nobody(_: int) -> None:
        raise KeyError

    monkeypatch.setattr("pwd.getpwuid", nobody)
    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "XDG_CACHE_HOME", "DINORAD_RT_CACHE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(OutputError, match="DINORAD_RT_CACHE="):
        cache_dir("graphs")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--model", "--backend", "--precision"])
@pytest.mark.parametrize("text", ["", ","])
def test_a_list_of_nothing_is_refused(option: str, text: str) -> None:
    done = CliRunner().invoke(app, ["bench", option, text])
    assert isinstance(done.exception, ProtocolError)
    assert f"{option} {text!r} names nothing" in done.exception.problem


@pytest.mark.parametrize(
    ("package", "told"), [("matplotlib", "'matplotlib'"), ("monai.losses", "'dinorad-rt[train]'")]
)
def test_a_package_that_is_gone_is_named_with_its_install_command(
    package: str,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from dinorad_rt.cli import listing, main

    def gone() -> None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    monkeypatch.setitem(listing._LISTERS, "models", gone)
    monkeypatch.setattr("sys.argv", ["dinorad-rt", "list", "models"])
    with pytest.raises(SystemExit) as stopped:
        main.main()
    assert stopped.value.code == 2
    assert f"pip install {told}" in capsys.readouterr().err


def test_doctor_names_a_cache_that_cannot_be_written(
    program: Program, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DINORAD_RT_CACHE", str(tmp_path / "file"))
    done = program("doctor", "--offline")
    assert done.returncode == 1, done.stderr
    assert "set DINORAD_RT_CACHE" in done.stdout and "Machine" in done.stdout


def test_a_closed_stdout_is_no_failure() -> None:
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m dinorad_rt list presets >&-"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(os.name != "posix", reason="a closed pipe is another error on Windows")
@pytest.mark.parametrize(
    "words",
    [("list", "presets"), ("list", "models"), ("--help",), ("eval", "--help"), ("--version",)],
)
@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_reader_that_has_gone_ends_the_program_quietly(words: tuple[str, ...], name: str) -> None:
    read, write = os.pipe()
    os.close(read)
    other = "stderr" if name == "stdout" else "stdout"
    words = words if name == "stdout" else ("eval", "--data", "/nowhere")
    done = subprocess.run(
        [sys.executable, "-m", "dinorad_rt", *words],
        text=True,
        **{name: write, other: subprocess.PIPE},  # type: ignore[call-overload]
    )
    os.close(write)
    assert done.returncode == 141
    assert getattr(done, other) == ""


STOPPED = """
import sys

class Stop:
    def find_spec(self, name, *_):
        if name == sys.argv[1]:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Stop())
from dinorad_rt.cli.main import main
main()
"""


@pytest.mark.parametrize("name", ["dinorad_rt.errors", "typer", "dinorad_rt.cli.values"])
def test_an_interruption_while_the_program_is_loaded_is_told_in_one_line(name: str) -> None:
    done = subprocess.run([sys.executable, "-c", STOPPED, name], capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stderr.strip() == "Stopped. Run the same command again: finished parts are kept."


@pytest.mark.parametrize(
    ("seen", "rank", "own"),
    [(None, "2", "2"), (None, "6", "2"), ("GPU-a,GPU-b", "1", "GPU-b"), ("3", "1", "3")],
)
def test_processes_of_torchrun_take_a_gpu_each(
    seen: str | None, rank: str, own: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dinorad_rt.machine.driver_gpus", lambda: [{}] * 4)
    monkeypatch.setenv("LOCAL_RANK", rank)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen or "")
    if seen is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    take_own_gpu()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == own


def test_a_process_alone_sees_all_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dinorad_rt.machine.driver_gpus", lambda: [{}] * 4)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    take_own_gpu()
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
