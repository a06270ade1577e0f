"""`dinorad-rt verify`: an honest engine passes, each planted fault is caught and named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from PIL import Image
from typer.testing import CliRunner

from dinorad_rt.backbones import load as loading
from dinorad_rt.cli.verbs import app
from dinorad_rt.engines.manifest import FORMAT, MANIFEST, REQUIRED
from dinorad_rt.errors import EngineError, ProtocolError
from dinorad_rt.export import onnx_export
from dinorad_rt.runners import openvino

MODEL = ("--model", "test_vit", "--weights", "random", "--image-size", "32")
PROFILE = "batch = 2\nthreads = 1\n"


@pytest.fixture
def run(cache: Path, tmp_path: Path) -> Callable[..., tuple[int, dict[str, Any]]]:
    """`run("--precision", "fp32")` → exit code and report."""
    profile = tmp_path / "test.toml"
    profile.write_text(PROFILE)

    def invoke(*arguments: str) -> tuple[int, dict[str, Any]]:
        line = ["verify", *MODEL, "--profile", str(profile), "--json", *arguments]
        result = CliRunner().invoke(app, line, catch_exceptions=False)
        assert result.exit_code in (0, 1), result.output
        return result.exit_code, json.loads(result.stdout)

    return invoke


def _checks(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in report["checks"]}


def test_an_honest_engine_passes_and_shows_its_proof(
    run: Callable[..., tuple[int, dict[str, Any]]],
) -> None:
    code, report = run("--precision", "fp32", "--backend", "openvino")
    checks = _checks(report)
    assert code == 0
    assert report["passed"]
    assert report["weights_kind"] == "random"
    assert [check["verdict"] for check in report["checks"]] == ["passed"] * 5 + ["not run"]
    assert checks["proof of precision"]["text"] == "matrix products: 37 x fp32"
    assert "measured now" in checks["export parity"]["text"]
    assert "--data" in checks["task gate"]["text"]


def _overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The MLP of block 4 leaves the range of FP16."""
    honest = loading.load_backbone

    def load(*arguments: Any, **options: Any) -> Any:
        backbone = honest(*arguments, **options)
        module: Any = backbone.module
        with torch.no_grad():
            module.blocks[4].mlp.fc1.weight.mul_(1e5)
            module.blocks[4].mlp.fc2.weight.mul_(1e-5)
        return backbone

    monkeypatch.setattr(loading, "load_backbone", load)


def _in_file(change: Callable[[onnx.GraphProto], None]) -> Callable[[pytest.MonkeyPatch], None]:
    """Change each exported file behind the exporter's back."""

    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        honest = onnx_export.write_onnx

        def dishonest(program: Any, path: Path, *rest: Any) -> Any:
            lint = honest(program, path, *rest)
            _change(path, path, change)
            return lint

        monkeypatch.setattr(onnx_export, "write_onnx", dishonest)

    return plant


def _in_build(change: Callable[[onnx.GraphProto], None]) -> Callable[[pytest.MonkeyPatch], None]:
    """Change each graph that OpenVINO is given, as a faulty backend would."""

    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        honest = openvino.build

        def dishonest(graph: Any, plan: Any, folder: Path, **rest: Any) -> Any:
            other = folder / "other"
            other.mkdir()
            _change(graph.path, other / "model.onnx", change)
            proof = honest(replace(graph, folder=other), plan, folder, **rest)
            (other / "model.onnx").unlink()
            other.rmdir()
            return proof

        monkeypatch.setattr(openvino, "build", dishonest)

    return plant


def _change(source: Path, target: Path, change: Callable[[onnx.GraphProto], None]) -> None:
    model = onnx.load(str(source))
    change(model.graph)
    onnx.save(model, str(target))


def _edit(name: str, edit: Callable[[np.ndarray], np.ndarray]) -> Callable[..., None]:
    def change(graph: onnx.GraphProto) -> None:
        item = next(i for i in graph.initializer if i.name == name)
        array = edit(numpy_helper.to_array(item))
        item.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), item.name))

    return change


def _leak(graph: onnx.GraphProto) -> None:
    """A tenth of the batch's mean on top of block 2's output."""
    place = next(i for i, n in enumerate(graph.node) if n.output[0] == "blocks.2.output")
    graph.node[place].output[0] = "blocks.2.clean"
    axes = numpy_helper.from_array(np.array([0], np.int64), "leak.axes")
    share = numpy_helper.from_array(np.float32([0.1]), "leak.share")
    graph.initializer.extend([axes, share])
    inputs = [["blocks.2.clean", "leak.axes"], ["leak.mean", "leak.share"]]
    inputs.append(["blocks.2.clean", "leak.part"])
    outputs = ("leak.mean", "leak.part", "blocks.2.output")
    for offset, operator in enumerate(("ReduceMean", "Mul", "Add")):
        name = f"blocks.2.{operator}_leak"
        node = helper.make_node(operator, inputs[offset], [outputs[offset]], name)
        graph.node.insert(place + 1 + offset, node)


def _silent_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that computes in FP32 whatever it was asked for, and finds nothing wrong."""

    def build(graph: Any, plan: Any, folder: Path, **rest: Any) -> Any:
        wide = replace(plan, precision="fp32", settings={**plan.settings, "matrix_type": "float32"})
        from dinorad_rt.engines.reference import widen_to_fp32

        other = folder / "wide"
        other.mkdir()
        widen_to_fp32(graph.path, other / "model.onnx")
        proof = honest(replace(graph, folder=other), wide, folder, **rest)
        for path in other.iterdir():
            path.unlink()
        other.rmdir()
        return proof

    honest = openvino.build
    monkeypatch.setattr(openvino, "build", build)
    monkeypatch.setattr(openvino, "cpu_precisions", lambda: ("fp32", "bf16", "fp16"))


_DROP = _edit("blocks.3.mlp.fc1.bias", np.zeros_like)
_SHIFT = _edit("tokens", lambda table: np.roll(table, 1, axis=1))


@pytest.mark.parametrize(
    ("plant", "precision", "check", "words"),
    [
        (_overflow, "fp16", "export parity", "values first leave the type's range in blocks.4"),
        (_in_file(_DROP), "fp32", "export parity", "ONNX file first leaves the limit in blocks.3"),
        (_in_file(_SHIFT), "fp32", "export parity", "embedding (patches, class token and pos"),
        (_in_file(_leak), "fp32", "export parity", "an image's embedding depends on its batch"),
        (
            _in_build(_DROP),
            "fp32",
            "build parity",
            "openvino engine first leaves the limit in bloc",
        ),
        (_in_build(_leak), "fp32", "build parity", "depends on its neighbours"),
        (
            _silent_fp32,
            "fp16",
            "proof of precision",
            "asked for in fp16 and is not: its matrix pro",
        ),
    ],
    ids="overflow bias positions leak build-bias build-leak silent-fp32".split(),
)
def test_a_planted_fault_is_caught_and_named(
    run: Callable[..., tuple[int, dict[str, Any]]],
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    plant: Callable[[pytest.MonkeyPatch], None],
    precision: str,
    check: str,
    words: str,
) -> None:
    plant(monkeypatch)
    code, report = run("--precision", precision, "--backend", "openvino")
    assert code == 1
    assert not report["passed"]
    failed = _checks(report)[check]
    assert failed["verdict"] == "failed"
    assert words in failed["text"]
    assert failed["fix"]
    assert not list((cache / "engines").glob("*/engine.json"))


def test_a_stored_graph_that_is_not_its_backbone_any_more_is_blamed_on_the_export(
    run: Callable[..., tuple[int, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("--backend", "openvino")[0] == 0
    honest = loading.load_backbone

    def load(*arguments: Any, **options: Any) -> Any:
        backbone = honest(*arguments, **options)
        module: Any = backbone.module
        with torch.no_grad():
            module.blocks[3].mlp.fc1.weight.zero_()
        return backbone

    monkeypatch.setattr(loading, "load_backbone", load)
    code, report = run("--backend", "openvino")
    assert code == 1
    assert list(_checks(report)) == ["export parity"]
    assert "first leaves the limit in blocks.3" in _checks(report)["export parity"]["text"]


def _dataset(folder: Path, count: int) -> Path:
    """Two classes of textures, every image its own patient."""
    random = np.random.default_rng(0)
    lines = ["image,label,patient,split"]
    for index in range(count):
        label = index % 2
        wave = np.sin(np.arange(40) * (0.3 + 0.5 * label))[None] * 60
        pixels = 128 + wave + random.normal(0, 40, (40, 40))
        name = f"i{index:03d}.png"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name)
        lines.append(f"{name},{label},p{index},{'train' if index < count // 2 else 'test'}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_the_task_gate_decides_on_enough_patients_only(
    run: Callable[..., tuple[int, dict[str, Any]]], tmp_path: Path
) -> None:
    for name, count, verdict, strict_code in (
        ("many", 80, "passed", 0),
        ("few", 24, "undecided", 1),
    ):
        folder = tmp_path / name
        folder.mkdir()
        data = str(_dataset(folder, count))
        arguments = ("--precision", "fp32", "--backend", "openvino", "--data", data)
        code, report = run(*arguments, "--strict", "--preprocessing", "model")
        gate = _checks(report)["task gate"]
        assert gate["verdict"] == verdict, gate
        assert code == strict_code
        assert gate["numbers"]["patients"] == count // 2
        assert gate["numbers"]["cosine_min"] > 0.99999
        assert _checks(report)["embeddings of your images"]["verdict"] == "passed"


def test_a_graph_of_ones_own_is_verified(
    run: Callable[..., tuple[int, dict[str, Any]]], tmp_path: Path
) -> None:
    out = tmp_path / "graph"
    exported = CliRunner().invoke(app, ["export", *MODEL, "--out", str(out)])
    assert exported.exit_code == 0
    code, report = run("--graph", str(out), "--backend", "onnxruntime")
    assert code == 0
    assert "as measured when it was exported" in _checks(report)["export parity"]["text"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--checkpoint", "RUN", "--image-size", "56"], "--image-size goes with --model"),
        (
            ["--checkpoint", "RUN", "--graph", "G", "--preprocessing", "study"],
            "--graph, --preprocessing go with --model",
        ),
        (["--mask-column", "mask"], "--mask-column goes with --checkpoint"),
    ],
)
def test_options_that_would_do_nothing_are_refused(words: list[str], told: str) -> None:
    with pytest.raises(ProtocolError, match=told):
        CliRunner().invoke(app, ["verify", *words], catch_exceptions=False)


def test_what_cannot_be_admitted_is_refused_before_the_graph_is_made(
    cache: Path, tmp_path: Path
) -> None:
    facts = dict.fromkeys(REQUIRED, "x") | {"format": FORMAT, "backend": "openvino", "files": {}}
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / MANIFEST).write_text(json.dumps(facts))
    for name, told in (("nosuch", "holds no engine"), ("engine", "An engine of openvino belongs")):
        done = CliRunner().invoke(app, ["verify", "--admit", str(tmp_path / name)])
        assert isinstance(done.exception, EngineError)
        assert told in done.exception.problem
        assert "build --backend tensorrt-rtx --targets" in done.exception.fix
    assert not (cache / "graphs").exists()
