"""`import dinorad_rt` and every `--help` stay light: no heavy package is loaded."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = (
    "torch timm torchvision onnx onnxscript onnxruntime openvino tensorrt tensorrt_rtx pydicom "
    "nibabel pyarrow pandas sklearn scipy transformers PIL cv2 numpy"
).split()
VERBS = "doctor list inspect prepare export build verify embed eval report train cache".split()


def loaded_after(code: str) -> set[str]:
    """Heavy packages that a fresh interpreter has loaded after running `code`."""
    script = f"{code}\nimport json, sys\nprint('\\n' + json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(run.stdout.splitlines()[-1])) & set(HEAVY)


def test_import_is_light() -> None:
    assert loaded_after("import dinorad_rt") == set()


def test_ctrl_c_is_heard_before_anything_else_is_imported() -> None:
    code = (
        "import sys\nbefore = set(sys.modules)\nimport dinorad_rt.cli.main\n"
        "print('\\n' + ' '.join(sorted(set(sys.modules) - before)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours = {name for name in run.stdout.split() if name.startswith(("dinorad_rt", "typer", "rich"))}
    assert ours == {"dinorad_rt", "dinorad_rt.cli", "dinorad_rt.cli.main"}


@pytest.mark.parametrize("verb", VERBS)
def test_help_is_light_and_says_something(verb: str) -> None:
    code = (
        "import sys\n"
        f"sys.argv = ['dinorad-rt', {verb!r}, '--help']\n"
        "from dinorad_rt.cli.verbs import app\n"
        "try:\n    app()\nexcept SystemExit as stop:\n    assert not stop.code"
    )
    assert loaded_after(code) <= set()


def test_the_engine_path_needs_no_medical_reader() -> None:
    """A GPU machine without pydicom, nibabel and pyarrow can export, build and run engines."""
    block = (
        "import sys\n"
        "for name in ('pydicom', 'nibabel', 'monai', 'pyarrow', 'h5py', 'SimpleITK'):\n"
        "    sys.modules[name] = None\n"
        "import dinorad_rt.backbones.load, dinorad_rt.export.onnx_export\n"
        "import dinorad_rt.engines.build, dinorad_rt.runners.registry, dinorad_rt.pipeline\n"
    )
    loaded_after(block)
