"""`auto`: the fastest backend of this machine for one graph, measured once and remembered."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dinorad_rt.errors import (
    BackendMissingError,
    CacheError,
    DinoradError,
    NoMemoryError,
    OutputError,
)
from dinorad_rt.files import read_json, sha256_json, write_json
from dinorad_rt.machine import machine_digest, usable_cores
from dinorad_rt.paths import cache_dir
from dinorad_rt.progress import Say, silent
from dinorad_rt.runners.precision import PRECISION_OF, PROGRAM_PRECISIONS, low_type
from dinorad_rt.runners.registry import LISTING, get_backend, list_backends, open_runner

if TYPE_CHECKING:
    from dinorad_rt.engines.manifest import Engine
    from dinorad_rt.engines.profile import Profile
    from dinorad_rt.export.manifest import Graph

ROUNDS = 4
ROUND_SECONDS = 0.5
HOPELESS = 0.6
"""After two rounds, backends below this share of the best are not measured again."""

SLOW_BUILDS = ("inductor",)
"""They compile for minutes: they take part only where such an engine lies in the cache already."""
SLOW_BUILD = "not measured: it compiles for minutes; after --backend inductor once, it takes part"


@dataclass(frozen=True)
class Choice:
    """What `auto` chose and why.

    Attributes:
        backend: its name.
        reason: one sentence for the user.
        measured: backend → images per second, of those that were measured.
        excluded: backend → why it was not measured.
    """

    backend: str
    reason: str
    measured: Mapping[str, float] = field(default_factory=dict)
    excluded: Mapping[str, str] = field(default_factory=dict)


def choose_backend(graph: Graph, profile: Profile, progress: Say | None = None) -> Choice:
    """The fastest backend here for this graph; measured once per machine, graph and profile.

    A backend takes part if it is installed, runs the graph's precision with the hardware's own
    arithmetic, and its engine passes the parity gate. Engines built on the way stay cached.

    Args:
        graph: from `export_onnx` or `Graph.open`.
        profile: from `load_profile`.
        progress: told in words what happens.

    Raises:
        BackendMissingError: no backend can run the graph here; says why for each.
        NoMemoryError: the same, and with more memory one could.
        CacheError, OutputError: a cached engine is damaged, or the cache cannot be written: that
            says nothing about a backend.
    """
    say = progress or silent
    states = {state.backend: state for state in list_backends()}
    usable = {name: s.version for name, s in states.items() if s.can_build and s.can_run}
    slow = [name for name in SLOW_BUILDS if name in usable and not _is_built(graph, profile, name)]
    stored = _memory(graph, profile, usable, slow)
    if (remembered := _recall(stored)) is not None:
        return remembered
    precision = PRECISION_OF[low_type(graph)]
    native = [name for name in usable if precision in states[name].precisions]
    excluded = {name: state.reason for name, state in states.items() if name not in usable}
    excluded |= {name: f"no {precision} here" for name in usable if name not in native}
    excluded |= dict.fromkeys((name for name in native if name in slow), SLOW_BUILD)
    native = [name for name in native if name not in excluded]
    if not native and "pytorch" in usable and precision in PROGRAM_PRECISIONS:
        reason = f"no backend has {precision} arithmetic on this machine; PyTorch emulates it"
        del excluded["pytorch"]
        return Choice("pytorch", reason, excluded=excluded)
    engines, short = _engines(graph, profile, native, excluded, say)
    if not engines and short is not None:
        raise short
    if not engines:
        why = "; ".join(f"{name}: {text}" for name, text in excluded.items())
        raise BackendMissingError(
            f"No backend can run {graph.model} in {graph.precision} here. {why}", f"See {LISTING}"
        )
    choice = _measure(engines, excluded, say)
    if short is None:  # else another backend may be the fastest when more memory is free
        document = {key: getattr(choice, key) for key in ("backend", "measured", "excluded")}
        write_json(stored, document)
    return choice


def _is_built(graph: Graph, profile: Profile, name: str) -> bool:
    from dinorad_rt.engines.cache import engine_key, find_engine, key_parts

    try:
        plan = get_backend(name).plan(graph, profile)
        return find_engine(engine_key(key_parts(graph, plan))) is not None
    except DinoradError:
        return False


def _memory(
    graph: Graph, profile: Profile, usable: Mapping[str, str | None], slow: list[str]
) -> Path:
    key = sha256_json(
        {
            "machine": machine_digest(),
            "cores": usable_cores(),
            "graph": graph.sha256,
            "precision": graph.precision,
            "profile": profile.as_dict(),
            "backends": dict(usable),
            "not_built": slow,
        }
    )
    return cache_dir("choices") / f"{key}.json"


def _recall(stored: Path) -> Choice | None:
    try:
        document = read_json(stored)
        measured, excluded = dict(document["measured"]), dict(document["excluded"])
        backend = str(document["backend"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Choice(backend, _reason(measured, excluded, "measured here before"), measured, excluded)


def _engines(
    graph: Graph, profile: Profile, names: list[str], excluded: dict[str, str], say: Say
) -> tuple[dict[str, Engine], NoMemoryError | None]:
    """The engines of those that can, and the error of one that memory was short for."""
    from dinorad_rt.engines.build import get_or_build

    engines: dict[str, Engine] = {}
    short = None
    for name in names:
        try:
            engines[name] = get_or_build(graph, backend=name, profile=profile, progress=say)
        except (CacheError, OutputError):
            raise
        except DinoradError as error:
            excluded[name] = error.problem.removesuffix(".")
            short = error if isinstance(error, NoMemoryError) else short
            say(f"{name} does not take part: {error.problem}")
    return engines, short


def _measure(engines: Mapping[str, Engine], excluded: Mapping[str, str], say: Say) -> Choice:
    if len(engines) == 1:
        name = next(iter(engines))
        return Choice(name, _reason({name: 0.0}, excluded, ""), excluded=excluded)
    say(f"measuring {', '.join(engines)} on this machine, once")
    rates: dict[str, list[float]] = {name: [] for name in engines}
    names = list(engines)
    for turn in range(ROUNDS):
        for name in names if turn % 2 == 0 else names[::-1]:
            rates[name].append(measure_rate(engines[name]))
        if turn > 0:
            best = max(max(rates[name]) for name in names)
            names = [name for name in names if max(rates[name]) >= HOPELESS * best]
        if len(names) == 1:
            break
    # The best round, not the mean: other load on the machine only ever takes away.
    measured = {name: round(max(values), 2) for name, values in rates.items()}
    best_name = max(names, key=lambda name: measured[name])
    return Choice(best_name, _reason(measured, excluded, "measured now"), measured, dict(excluded))


def measure_rate(engine: Engine, seconds: float = ROUND_SECONDS) -> float:
    """Images per second of an engine through `infer_stream`, after a warm-up.

    Each engine is opened alone: threads of another runtime that spin would disturb it.
    """
    with open_runner(engine) as runner:
        batch = np.zeros((runner.batch, *runner.input_shape), np.float32)
        for _ in runner.infer_stream(repeat(batch, runner.look_ahead)):
            pass
        count, start = 0, time.perf_counter()
        for _ in runner.infer_stream(_until(start + seconds, batch)):
            count += runner.batch
        return count / (time.perf_counter() - start)


def _until(end: float, batch: np.ndarray) -> Iterator[np.ndarray]:
    yield batch
    while time.perf_counter() < end:
        yield batch


def _reason(measured: Mapping[str, float], excluded: Mapping[str, str], when: str) -> str:
    if len(measured) <= 1:
        others = "; ".join(f"{name}: {text}" for name, text in excluded.items())
        return f"the only one that runs this graph here ({others or 'no other is installed'})"
    ranked = sorted(measured.items(), key=lambda item: -item[1])
    rates = ", ".join(f"{name} {rate:.1f}" for name, rate in ranked)
    return f"fastest here, {when}: {rates} images/s"
