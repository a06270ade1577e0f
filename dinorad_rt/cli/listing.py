"""`dinorad-rt list`: what can be named on the command line."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from dinorad_rt.cli import options
from dinorad_rt.cli.console import print_json

Rows = list[dict[str, str]]


def list_things(
    what: Annotated[
        Literal["models", "datasets", "backends", "profiles", "presets", "protocols", "studies"],
        typer.Argument(metavar="WHAT", help="One of these."),
    ] = "models",
    as_json: options.AsJson = False,
) -> None:
    """List models, datasets, backends, profiles, presets, protocols or studies."""
    rows = _LISTERS[what]()
    if as_json:
        print_json({what: rows})
        return
    from dinorad_rt.reports.table import print_table, rows_table

    print_table(rows_table(what, rows, _SPARE.get(what, ())))
    if what == "models":
        typer.echo("Any timm model works too, by its own name; `timm.list_models()` has them.")


def _models() -> Rows:
    from dinorad_rt.backbones.registry import list_specs

    return [
        {
            "name": spec.name,
            "backbone": spec.title,
            "training": spec.training,
            "dim": str(spec.dim),
            "patch": str(spec.patch or "-"),
            "size": str(spec.image_size),
            "licence": spec.licence,
            "study": "yes" if spec.in_study else "",
        }
        for spec in list_specs()
    ]


def _datasets() -> Rows:
    from dinorad_rt.datasets.registry import list_datasets

    return [dict(row) for row in list_datasets()]


def _backends() -> Rows:
    from dinorad_rt.runners.registry import list_backends

    return [
        {
            "name": row.backend,
            "builds": "yes" if row.can_build else "no",
            "runs": "yes" if row.can_run else "no",
            "version": row.version or "-",
            "devices": ", ".join(row.devices) or "-",
            "fast here": ", ".join(row.precisions) or "-",
            "why not": row.reason,
            "install": "" if row.can_run else row.install,
        }
        for row in list_backends()
    ]


def _profiles() -> Rows:
    from dinorad_rt.engines.profile import list_profiles

    return [{"name": p.name, "batch": str(p.batch), "about": p.about} for p in list_profiles()]


def _presets() -> Rows:
    from dinorad_rt.preprocessing.presets import listed_presets

    return [{"name": name, "what it does": text} for name, text in listed_presets()]


def _studies() -> Rows:
    from dinorad_rt.campaign.study import list_studies, read_study_file

    return [{"name": name, "what it runs": read_study_file(name).title} for name in list_studies()]


def _protocols() -> Rows:
    from dinorad_rt.protocols.registry import PROTOCOLS

    rows = []
    for entry in PROTOCOLS.values():
        values = entry.settings_class().preset("dinorad").as_dict()
        shown = {k: v for k, v in values.items() if k not in ("preset_name", "Cs")}
        texts = (f"{name}={_text(value)}" for name, value in shown.items())
        rows.append(
            {"name": entry.name, "what it is": entry.title, "settings (--set)": " ".join(texts)}
        )
    return rows


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return "auto" if value is None else str(value)


_SPARE = {
    "models": ("study", "patch", "dim", "training", "size", "licence"),
    "datasets": ("study", "classes", "licence", "train, val, test", "modality", "task"),
    "backends": ("devices", "fast here", "version"),
}
"""Columns that a narrow terminal goes without, the least important first."""
_LISTERS = {
    "models": _models,
    "datasets": _datasets,
    "backends": _backends,
    "profiles": _profiles,
    "presets": _presets,
    "protocols": _protocols,
    "studies": _studies,
}
