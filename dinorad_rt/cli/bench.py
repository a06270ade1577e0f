"""`dinorad-rt bench`: latency, throughput, memory and energy, side by side in one run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dinorad_rt.cli import options
from dinorad_rt.cli.console import note, print_json
from dinorad_rt.errors import EngineError

_END_TO_END = "From files to embeddings"
SHOWN = (
    *("model", "px", "backend", "precision", "batch", "mode"),
    *("images/s", "p50 ms", "p99 ms", "engine only ms", "of ceiling %", "peak MB"),
)
_SPARE = ("px", "peak MB", "engine only ms", "p99 ms", "of ceiling %", "precision")
"""Columns that a narrow terminal goes without, the least important first."""


def bench(
    model: Annotated[
        str,
        typer.Option("--model", "-m", metavar="NAMES", help="Backbones, separated by commas."),
    ] = "vits14",
    backend: Annotated[
        str,
        typer.Option(metavar="NAMES", help="Backends, separated by commas, or all that run here."),
    ] = "all",
    precision: Annotated[
        str,
        typer.Option(
            metavar="TYPES",
            help="Precisions, separated by commas, or native: those that this machine has "
            "arithmetic for.",
        ),
    ] = "native",
    image_size: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBERS", help="Input sides, separated by commas. Default: the backbone's."
        ),
    ] = None,
    batch: Annotated[
        str, typer.Option(metavar="NUMBERS", help="Images per call, separated by commas.")
    ] = "1,8,32",
    weights: options.Weights = "random",
    repeats: Annotated[int, typer.Option(min=1, help="Measurements of each cell.")] = 3,
    seconds: Annotated[float, typer.Option(min=0.1, help="Length of one measurement.")] = 2.0,
    cool_down: Annotated[float, typer.Option(min=0, help="Rest before each, seconds.")] = 0.5,
    minutes: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="Begin no measurement that would end later, no engine after half of it, no graph "
            "after a quarter. The fastest cells come first, and the same command goes on.",
        ),
    ] = None,
    end_to_end: Annotated[
        bool,
        typer.Option(
            help="Also measure from files to stored embeddings.", rich_help_panel=_END_TO_END
        ),
    ] = True,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Images for that. Default: generated studies.", rich_help_panel=_END_TO_END
        ),
    ] = None,
    results: Annotated[
        list[Path] | None,
        typer.Option(help="A run of eval, for accuracy against latency; several times."),
    ] = None,
    out: options.Out = None,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Measure latency, throughput, memory and energy of engines, side by side.

    In random order, with repeats, each engine in a process of its own. Writes bench.json, bench.md
    and a self-contained bench.html, with the machine's own matrix-product ceiling measured in the
    same run. A run that was stopped goes on; what is measured later with the same --out adds to it.
    """
    from dinorad_rt.benchmarking.sweep import BENCH_FILE, SweepPlan, run_sweep
    from dinorad_rt.files import claimed_dir
    from dinorad_rt.reports.bench import write_bench_report
    from dinorad_rt.reports.bench_rows import table_rows
    from dinorad_rt.reports.table import print_table, rows_table

    plan = SweepPlan(
        models=_models(model),
        backends=_backends(backend),
        precisions=_precisions(precision),
        image_sizes=_image_sizes(image_size),
        batches=_batches(batch),
        weights=weights,
        repeats=repeats,
        seconds=seconds,
        cool_down=cool_down,
        minutes=minutes,
        seed=seed,
        end_to_end=end_to_end,
        data=data,
    )
    _check_data(data)
    _check_results(results or [])
    with claimed_dir(out or Path("runs") / "bench", BENCH_FILE) as folder:
        document = run_sweep(plan, folder, say=note)
        markdown, page = write_bench_report(document, folder, results or [])
    if as_json:
        print_json(document)
        return
    print_table(rows_table("Benchmark", _shown(table_rows(document)), _SPARE))
    typer.echo(f"\nNumbers  {folder / BENCH_FILE}\nTables   {markdown}\nPage     {page}")


def _shown(rows: list[dict[str, object]]) -> list[dict[str, str]]:
    from dinorad_rt.reports.cells import format_number

    def text(value: object) -> str:
        return format_number(value) if isinstance(value, (int, float)) else str(value or "–")

    return [{key: text(row[key]) for key in SHOWN} for row in rows]


def _models(text: str) -> tuple[str, ...]:
    from dinorad_rt.backbones.registry import get_spec

    names = options.some_names("--model", text)
    for name in names:
        get_spec(name)
    return names


def _backends(text: str) -> tuple[str, ...]:
    from dinorad_rt.runners.registry import list_backends, require_backend

    if text == "all":
        return tuple(row.backend for row in list_backends() if row.can_build and row.can_run)
    names = options.some_names("--backend", text)
    return tuple(require_backend(name).NAME for name in names)


def _precisions(text: str) -> tuple[str, ...]:
    from dinorad_rt.errors import unknown_name
    from dinorad_rt.machine import cpu_precisions, has_gpu
    from dinorad_rt.types import PRECISIONS

    if text == "native":
        return ("fp32", "bf16", "fp16") if has_gpu() else cpu_precisions()
    names = options.some_names("--precision", text)
    for name in names:
        if name not in PRECISIONS:
            raise unknown_name("precision", name, PRECISIONS, "dinorad-rt bench --help")
    return names


def _image_sizes(text: str | None) -> tuple[int | None, ...]:
    return options.numbers("--image-size", text, example="224,448") if text else (None,)


def _batches(text: str) -> tuple[int, ...]:
    from dinorad_rt.engines.profile import MAX_BATCH

    batches = options.numbers("--batch", text, example="1,8,32")
    if max(batches) > MAX_BATCH:
        raise EngineError(
            f"--batch {max(batches)} is above the largest batch of a profile, {MAX_BATCH}.",
            f"Use at most --batch {MAX_BATCH}; engines split what is longer by themselves.",
        )
    return batches


def _check_data(data: Path | None) -> None:
    """Before minutes of work: can the images be opened at all?"""
    if data is not None:
        from dinorad_rt.pipeline import dataset_for

        dataset_for(data)


def _check_results(folders: list[Path]) -> None:
    from dinorad_rt.reports.results import Results

    for folder in folders:
        Results.open(folder)
