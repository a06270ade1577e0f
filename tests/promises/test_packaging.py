"""What is installed, in each of the four ways: wheel, pure wheel, editable, bare checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from dinorad_rt import __version__
from dinorad_rt.optional import EXTRA_OF

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
SOURCES = ("CMakeLists.txt", "LICENSE", "README.md", "pyproject.toml")
NO_EDITABLE = (  # an editable install would lend its native module to the bare checkout
    "import sys;"
    "sys.meta_path[:] = [f for f in sys.meta_path if 'ScikitBuild' not in type(f).__name__];"
)
FACTS = """
from dinorad_rt import __version__
from dinorad_rt.paths import recipe_dir
from dinorad_rt.preprocessing.native import is_available
recipes = sorted(p.name for p in recipe_dir("export").glob("*.toml"))
profiles = sorted(p.name for p in (recipe_dir("engines") / "profiles").glob("*.toml"))
print(__version__, is_available(), *recipes, *profiles)
"""

needs_build = pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in ("c++", "cmake")), reason="no compiler or no CMake"
)


def names(requirements: list[str]) -> set[str]:
    return {Requirement(text).name.lower().replace("_", "-") for text in requirements}


def declared() -> str:
    """What FACTS prints of the recipes and profiles of this checkout."""
    recipes = sorted(path.name for path in (ROOT / "export").glob("*.toml"))
    profiles = sorted(path.name for path in (ROOT / "engines/profiles").glob("*.toml"))
    return " ".join([*recipes, *profiles])


def test_onnxruntime_and_its_gpu_twin_never_come_together():
    holders = [
        name
        for name, requirements in {"": PROJECT["dependencies"], **EXTRAS}.items()
        if names(requirements) & {"onnxruntime", "onnxruntime-gpu"}
    ]
    assert holders == ["cpu", "onnxruntime-gpu"]


def test_every_optional_package_has_its_extra():
    assert set(EXTRA_OF.values()) <= set(EXTRAS)


def test_constraints_lie_inside_our_ranges():
    pinned = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    )
    for text in [*PROJECT["dependencies"], *EXTRAS["cpu"], *EXTRAS["test"], *EXTRAS["dev"]]:
        requirement = Requirement(text)
        version = pinned.get(requirement.name.lower().replace("_", "-"))
        assert version is None or requirement.specifier.contains(version), text


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a fresh clone holds, so that builds leave nothing in the checkout."""
    copy = tmp_path_factory.mktemp("source")
    skip = shutil.ignore_patterns("__pycache__", "_native*", "_data")
    for folder in ("dinorad_rt", "engines", "export"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=skip)
    for name in SOURCES:
        shutil.copy(ROOT / name, copy)
    return copy


def run(*command: object, cwd: Path, **environment: str) -> str:
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "DINORAD_PURE")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=clean | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def build_wheel(source: Path, out: Path, **environment: str) -> Path:
    pytest.importorskip("scikit_build_core")
    pytest.importorskip("nanobind")
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", out)
    run(sys.executable, "-m", "pip", "wheel", *options, source, cwd=out, **environment)
    (wheel,) = out.glob("*.whl")
    return wheel


def install(folder: Path, *what: object, **environment: str) -> Path:
    """A virtual environment with `what`, and the packages of this one behind it."""
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "behind.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    python = folder / "bin" / "python"
    run(
        *(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps"),
        *("--no-build-isolation", *what),
        cwd=folder,
        **environment,
    )
    return python


def members(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.mark.slow
@needs_build
def test_wheel(source, tmp_path):
    wheel = build_wheel(source, tmp_path)
    found = members(wheel)
    ours = {
        path.relative_to(source).as_posix()
        for path in (source / "dinorad_rt").rglob("*")
        if path.suffix in (".py", ".typed", ".toml")
    }
    assert ours <= found
    extra = {name for name in found - ours if ".dist-info/" not in name}
    native = {name for name in extra if re.fullmatch(r"dinorad_rt/_native\..*\.(so|pyd)", name)}
    assert len(native) == 1
    assert all(name.startswith("dinorad_rt/_data/") for name in extra - native)
    assert not any("native/" in name for name in found)
    python = install(tmp_path / "env", wheel)
    facts = f"{__version__} True {declared()}"
    assert run(python, "-c", FACTS, cwd=tmp_path) == facts
    assert "Usage" in run(python.with_name("dinorad-rt"), "--help", cwd=tmp_path)


@pytest.mark.slow
def test_pure_wheel(source, tmp_path):
    wheel = build_wheel(source, tmp_path, DINORAD_PURE="1")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert not any("_native" in name for name in members(wheel))
    python = install(tmp_path / "env", wheel)
    assert run(python, "-c", FACTS, cwd=tmp_path) == f"{__version__} False {declared()}"


@pytest.mark.slow
def test_without_a_working_compiler_the_pure_wheel_is_built(source, tmp_path):
    copy = shutil.copytree(source, tmp_path / "source", ignore=shutil.ignore_patterns("build"))
    (tmp_path / "out").mkdir()
    wheel = build_wheel(copy, tmp_path / "out", CXX=shutil.which("false") or "false")
    assert wheel.name.endswith("-py3-none-any.whl")


@pytest.mark.slow
@needs_build
def test_editable_install_reads_the_checkout(source, tmp_path):
    python = install(tmp_path / "env", "--editable", source)
    assert run(python, "-c", FACTS, cwd=tmp_path) == f"{__version__} True {declared()}"
    where = run(python, "-c", "import dinorad_rt; print(dinorad_rt.__file__)", cwd=tmp_path)
    assert Path(where).is_relative_to(source)


def test_bare_checkout_runs(source):
    facts = run(sys.executable, "-c", NO_EDITABLE + FACTS, cwd=source, PYTHONPATH=str(source))
    assert facts == f"{__version__} False {declared()}"


@pytest.mark.slow
@needs_build
def test_kernel_passes_its_own_tests(tmp_path):
    run("cmake", "-S", ROOT, "-B", tmp_path, "-DDINORAD_PYTHON=OFF", cwd=tmp_path)
    run("cmake", "--build", tmp_path, cwd=tmp_path)
    assert "100% tests passed" in run("ctest", "--test-dir", tmp_path, cwd=tmp_path)
