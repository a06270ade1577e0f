"""`dinorad-rt cache`: what this machine keeps, whether it is still whole, and how to make room."""

from __future__ import annotations

import re
import time
from typing import Annotated

import typer

from dinorad_rt.cli import options
from dinorad_rt.cli.console import note, print_json, warn
from dinorad_rt.paths import cache_root
from dinorad_rt.words import count_of

EXIT_DAMAGED = 1
_DAY = 86_400.0
_SIZES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}

app = typer.Typer(
    add_completion=False,
    help="Show, check or empty the cache of graphs, engines and embeddings.",
    no_args_is_help=True,
)


@app.command("list")
def list_cache(as_json: options.AsJson = False) -> None:
    """Show what is cached, with sizes and when it was last used.

    Engines of one graph share their weights on disk: the total may be less than the sum.
    """
    from dinorad_rt.engines.inventory import disk_bytes, entries

    found = entries()
    root = str(cache_root())
    if as_json:
        rows = [
            {"kind": e.kind, "name": e.name, "size": e.size, "used": e.used, "about": e.about}
            for e in found
        ]
        print_json({"root": root, "disk_bytes": disk_bytes(found), "entries": rows})
        return
    from dinorad_rt.reports.table import print_table, rows_table

    now = time.time()
    shown = [
        {
            "kind": entry.kind,
            "name": entry.name[:16],
            "about": entry.about,
            "MB": f"{entry.size / 1e6:.1f}",
            "days unused": f"{(now - entry.used) / _DAY:.1f}",
        }
        for entry in found
    ]
    print_table(rows_table(f"{root}: {disk_bytes(found) / 1e6:.1f} MB", shown))


@app.command("verify")
def verify_cache(
    remove_damaged: Annotated[
        bool, typer.Option("--remove", help="Delete what is damaged; it is made again when asked.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Hash every file of every graph and engine again. Exit code 1 if something is damaged."""
    from dinorad_rt.engines.inventory import find_damage, remove

    found = list(find_damage())
    damaged = [(entry, what) for entry, what in found if what]
    if as_json:
        rows = [{"kind": e.kind, "name": e.name, "damage": what} for e, what in damaged]
        print_json({"checked": len(found), "damaged": rows})
    else:
        for entry, what in damaged:
            warn(f"{entry.kind} {entry.name[:12]}: {what}")
        hashed = count_of(len(found), "graph or engine", "graphs and engines")
        typer.echo(f"{hashed} hashed, {len(damaged)} damaged.")
    if remove_damaged:
        remove((entry for entry, _ in damaged), note)
    elif damaged:
        raise typer.Exit(EXIT_DAMAGED)


@app.command("prune")
def prune(
    kind: Annotated[str, typer.Argument(help="A kind of `cache list`, or all.")] = "all",
    older_than: Annotated[
        str | None, typer.Option(help="Only what was not used for so long: 30d, 12h.")
    ] = None,
    keep: Annotated[
        str | None, typer.Option(help="Keep so much, the latest used: 20G, 500M.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete cached things by kind, age or size; everything can be made again.

    What another process is building is left alone; what dead processes left behind goes.
    """
    from dinorad_rt.engines.inventory import (
        disk_bytes,
        entries,
        remove,
        remove_leftovers,
        surplus,
    )
    from dinorad_rt.paths import CACHE_KINDS

    if kind != "all" and kind not in CACHE_KINDS:
        from dinorad_rt.errors import unknown_name

        raise unknown_name("cache", kind, CACHE_KINDS, "dinorad-rt cache list")
    age, size = parse_age(older_than), parse_size(keep)
    chosen = surplus(
        entries(CACHE_KINDS if kind == "all" else (kind,)), older_than=age, keep_bytes=size
    )
    if chosen and not yes:
        what = f"{count_of(len(chosen), 'entry')} ({disk_bytes(chosen) / 1e6:.1f} MB) of {kind}"
        typer.confirm(f"Delete {what}?", abort=True)
    freed = remove(chosen, note) + remove_leftovers()
    typer.echo(f"Freed {freed / 1e6:.1f} MB.")


def parse_age(text: str | None) -> float | None:
    """`30d`, `12h` → seconds.

    Raises:
        UnknownNameError: something else.
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([dh])", text)
    if found is None:
        raise _bad("--older-than", text, "30d or 12h")
    return float(found[1]) * (_DAY if found[2] == "d" else _DAY / 24)


def parse_size(text: str | None) -> int | None:
    """`20G`, `500M` → bytes.

    Raises:
        UnknownNameError: something else.
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kMGT]?)B?", text)
    if found is None:
        raise _bad("--keep", text, "20G or 500M")
    return int(float(found[1]) * _SIZES[found[2]])


def _bad(option: str, text: str, example: str) -> Exception:
    from dinorad_rt.errors import UnknownNameError

    return UnknownNameError(f"{option} {text!r} is not understood.", f"Example: {option} {example}")
