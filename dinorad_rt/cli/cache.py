"""`dinorad-rt cache`: what this machine keeps, and how to make room."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from dinorad_rt.cli import options
from dinorad_rt.cli.console import print_json
from dinorad_rt.paths import cache_dir

KINDS = ("graphs", "engines", "embeddings", "phantoms", "choices")

app = typer.Typer(help="Show or empty the cache of graphs, engines and embeddings.")


@app.command("list")
def list_cache(as_json: options.AsJson = False) -> None:
    """Show what is cached, with sizes."""
    rows: list[dict[str, Any]] = [
        {"kind": kind, "name": entry.name, "size": _size(entry)}
        for kind in KINDS
        for entry in sorted(cache_dir(kind).iterdir())
        if not entry.name.startswith(".") and entry.suffix != ".lock"
    ]
    if as_json:
        print_json({"root": str(cache_dir("graphs").parent), "entries": rows})
        return
    from dinorad_rt.reports.table import print_table, rows_table

    shown = [
        {"kind": row["kind"], "name": row["name"], "MB": f"{row['size'] / 1e6:.1f}"} for row in rows
    ]
    print_table(rows_table(str(cache_dir("graphs").parent), shown))


@app.command("prune")
def prune(
    kind: Annotated[str, typer.Argument(help=f"One of {', '.join(KINDS)}, or all.")] = "all",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete cached things; everything can be made again."""
    if kind != "all" and kind not in KINDS:
        from dinorad_rt.errors import unknown_name

        raise unknown_name("cache", kind, KINDS, "dinorad-rt cache prune --help")
    kinds = KINDS if kind == "all" else (kind,)
    total = sum(_size(cache_dir(k)) for k in kinds)
    if not yes:
        typer.confirm(f"Delete {', '.join(kinds)} ({total / 1e6:.1f} MB)?", abort=True)
    for name in kinds:
        shutil.rmtree(cache_dir(name))
    typer.echo(f"Freed {total / 1e6:.1f} MB.")


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())
