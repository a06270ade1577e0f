"""Declarations and registries agree: every backbone has a recipe, every recipe a backbone."""

from __future__ import annotations

import tomllib
from pathlib import Path

from dinorad_rt.backbones.registry import list_specs
from dinorad_rt.engines.profile import list_profiles
from dinorad_rt.export.recipe import load_recipe
from dinorad_rt.paths import recipe_dir

ROOT = Path(__file__).resolve().parents[2]


def test_every_family_has_a_recipe_and_every_recipe_is_used() -> None:
    families = {spec.family for spec in list_specs()}
    for family in families:
        load_recipe(family)
    files = {path.stem for path in recipe_dir("export").glob("*.toml")}
    assert families <= files


def test_every_profile_loads() -> None:
    names = {profile.name for profile in list_profiles()}
    files = {path.stem for path in (recipe_dir("engines") / "profiles").glob("*.toml")}
    assert names == files


def test_every_toml_file_is_valid() -> None:
    for path in [*recipe_dir("export").glob("*.toml"), *recipe_dir("engines").rglob("*.toml")]:
        tomllib.loads(path.read_text(encoding="utf-8"))


def test_no_python_lies_in_the_declarations() -> None:
    for folder in ("export", "engines"):
        assert not list((ROOT / folder).rglob("*.py"))


def test_every_backbone_names_its_licence_and_source() -> None:
    for spec in list_specs():
        assert spec.licence, spec.name
        assert spec.source, spec.name
