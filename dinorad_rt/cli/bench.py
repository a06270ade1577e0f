"""`dinorad-rt bench`: latency, throughput, memory and energy, side by side in one run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dinorad_rt.cli import options
from dinorad_rt.cli.console import note, print_json
from dinorad_rt.errors import EngineError

SHOWN = (
    *("model", "px", "backend", "precision", "batch", "mode"),
    *("images/s", "p50 ms", "p99 ms", "of ceiling %", "peak MB"),
)


def bench(
    model: Annotated[
        str, typer.Option("--model", "-m", help="Backbones, separated by commas.")
    ] = "vits14",
    backend: Annotated[
        str, typer.Option(help="Backends, separated by commas, or all that run here.")
    ] = "all",
    precision: Annotated[
        str, typer.Option(help="Precisions, separated by commas: fp32, fp16, bf16, mixed.")
    ] = "fp32",
    image_size: Annotated[
        str | None, typer.Option(help="Input sides, separated by commas. Default: the backbone's.")
    ] = None,
    batch: Annotated[str, typer.Option(help="Images per call, separated by commas.")] = "1,8,32",
    weights: options.Weights = "random",
    repeats: Annotated[int, typer.Option(min=1, help="Measurements of each cell.")] = 3,
    seconds: Annotated[float, typer.Option(min=0.1, help="Length of one measurement.")] = 2.0,
    cool_down: Annotated[float, typer.Option(min=0, help="Rest before each, seconds.")] = 0.5,
    out: options.Out = None,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Measure engines side by side: random order, repeats, each in a process of its own.

    Writes bench.json, bench.md and a self-contained bench.html, with the machine's own
    matrix-product ceiling measured in the same run.
    """
    from dinorad_rt.benchmarking.sweep import SweepPlan, run_sweep
    from dinorad_rt.files import claim_output_dir
    from dinorad_rt.pipeline import resolve_precision
    from dinorad_rt.reports.bench import table_rows, write_bench_report
    from dinorad_rt.reports.table import print_table, rows_table

    folder = claim_output_dir(out or Path("runs") / "bench", "bench.json")
    plan = SweepPlan(
        models=tuple(_words(model)),
        backends=_backends(backend),
        precisions=tuple(resolve_precision(p, "pytorch") for p in _words(precision)),  # type: ignore[arg-type]
        image_sizes=tuple(_numbers(image_size, "--image-size")) if image_size else (None,),
        batches=tuple(_numbers(batch, "--batch")),
        weights=weights,
        repeats=repeats,
        seconds=seconds,
        cool_down=cool_down,
        seed=seed,
    )
    document = run_sweep(plan, folder, say=note)
    markdown, page = write_bench_report(document, folder)
    if as_json:
        print_json(document)
        return
    print_table(rows_table("Benchmark", _shown(table_rows(document))))
    typer.echo(f"\nNumbers  {folder / 'bench.json'}\nTables   {markdown}\nPage     {page}")


def _shown(rows: list[dict[str, object]]) -> list[dict[str, str]]:
    from dinorad_rt.reports.page import format_number

    def text(value: object) -> str:
        return format_number(value) if isinstance(value, (int, float)) else str(value or "–")

    return [{key: text(row[key]) for key in SHOWN} for row in rows]


def _backends(text: str) -> tuple[str, ...]:
    from dinorad_rt.runners.registry import get_backend, list_backends

    if text == "all":
        return tuple(row.backend for row in list_backends() if row.can_build and row.can_run)
    names = tuple(_words(text))
    for name in names:
        get_backend(name)
    return names


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _numbers(text: str, option: str) -> list[int]:
    words = _words(text)
    if not words or not all(word.isdigit() and int(word) > 0 for word in words):
        raise EngineError(
            f"{option} {text!r} is not a list of positive whole numbers.",
            f"Example: {option} 1,8,32",
        )
    return [int(word) for word in words]
