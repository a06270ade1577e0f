"""The house rules that a machine can check."""

from __future__ import annotations

import ast
import re
import statistics
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "dinorad_rt"
MODULES = sorted(PACKAGE.rglob("*.py"))


def test_no_module_is_longer_than_500_lines() -> None:
    for module in MODULES:
        assert len(module.read_text(encoding="utf-8").splitlines()) <= 500, module


def test_nine_functions_in_ten_have_at_most_40_lines() -> None:
    lengths = [
        node.end_lineno - node.lineno + 1
        for module in MODULES
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno
    ]
    assert statistics.quantiles(lengths, n=10)[-1] <= 40


def test_every_module_says_what_it_is() -> None:
    for module in MODULES:
        docstring = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8")))
        assert docstring and len(docstring) > 10, module


def test_at_most_five_positional_parameters() -> None:
    for module in MODULES:
        if module.parent.name == "cli":
            continue  # a verb's parameters are its options
        tree = ast.parse(module.read_text(encoding="utf-8"))
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
        for node in [*tree.body, *(part for owner in classes for part in owner.body)]:
            if isinstance(node, ast.FunctionDef):  # inner ones often follow a foreign signature
                positional = [a.arg for a in (*node.args.posonlyargs, *node.args.args)]
                own = [name for name in positional if name not in ("self", "cls")]
                assert len(own) <= 5, f"{module.name}:{node.name}"


def test_the_makefile_has_at_most_eight_targets() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.+)$", text, flags=re.MULTILINE)
    assert len(phony.split()) <= 8


def test_torch_load_is_always_safe() -> None:
    for module in MODULES:
        text = module.read_text(encoding="utf-8")
        for call in re.findall(r"torch\.load\([^)]*\)", text):
            assert "weights_only=True" in call, module
        assert not re.findall(r"pickle\.(load|loads|Unpickler)\b", text), module
