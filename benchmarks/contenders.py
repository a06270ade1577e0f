"""Contenders of one race, each in a process of its own that lives through the whole race.

    python -m benchmarks.contenders        the worker: JSON lines in, JSON lines out

A worker loads its engine once, then measures when it is told to and sleeps in between, so that all
contenders meet the same machine: the same load, clock and temperature, seconds apart.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

Call = Callable[[int], None]
"""Runs n batches and returns when the last is done."""
Calls = Mapping[str, Call]
"""Several ways to run one engine, by name."""


@dataclass(frozen=True)
class CellKey:
    """Model, side in pixels and batch of one race."""

    model: str
    size: int
    batch: int

    @property
    def name(self) -> str:
        """As in --only."""
        return f"{self.model}-{self.size}-{self.batch}"

    @property
    def latency(self) -> bool:
        """One call at a time."""
        return self.batch == 1


@dataclass
class Contender:
    """A worker process and how to talk to it.

    Attributes:
        name: for tables.
        job: `kind`, and what that kind of worker needs.
        environment: of the process, beside this one's.
    """

    name: str
    job: Mapping[str, Any]
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[str] | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    _boosted: bool = False

    def start(self) -> None:
        """Start the process and wait until its engine is loaded and warm.

        Raises:
            RuntimeError: it died; with its last words.
        """
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.contenders"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | dict(self.environment),
            start_new_session=True,  # a scheduling group of its own, see `_renice`
        )
        self.facts = self._ask(dict(self.job))

    def measure(self, seconds: float, nice: int = 0, way: str = "") -> float:
        """Images per second over about `seconds`, at a nice value (below 0 needs root)."""
        self._renice(nice)
        try:
            return float(self.facts_of(seconds, way)["images_per_s"])
        finally:
            self._renice(0)

    def facts_of(self, seconds: float, way: str = "") -> dict[str, Any]:
        """`images_per_s` over about `seconds`, and `joules_per_image` by counter."""
        return self._ask({"seconds": seconds, "way": way})

    def _renice(self, nice: int) -> None:
        """For every thread, and for the session: Linux weighs sessions first, then threads."""
        assert self.process is not None
        group = Path(f"/proc/{self.process.pid}/autogroup")
        if group.exists() and nice:
            group.write_text(str(nice))
        elif group.exists() and self._boosted:
            group.write_text("0")
        self._boosted = bool(nice)
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            if os.getpriority(os.PRIO_PROCESS, int(task.name)) != nice:
                os.setpriority(os.PRIO_PROCESS, int(task.name), nice)

    def stop(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait()

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self.process is not None and self.process.stdin and self.process.stdout
        print(json.dumps(question), file=self.process.stdin, flush=True)
        for line in self.process.stdout:
            if line.startswith("{"):
                answer = dict(json.loads(line))
                if "error" in answer:
                    raise RuntimeError(f"{self.name}: {answer['error']}")
                return answer
        raise RuntimeError(f"{self.name}: its process ended")


def main() -> None:
    """The worker."""
    calls: Calls = {}
    batch = least = 0
    stack: list[Any] = []
    for line in sys.stdin:
        question = json.loads(line)
        try:
            if not calls:
                start = time.perf_counter()
                context = KINDS[question["kind"]](question)
                found = context.__enter__()
                stack.append(context)
                ways = found if isinstance(found, Mapping) else {"": found}
                batch, least = int(question["batch"]), int(question.get("least", 1))
                loaded = time.perf_counter() - start
                for call in ways.values():
                    call(2)
                calls = ways
                answer: dict[str, Any] = {"load_s": loaded}
            else:
                answer = _rate(calls[question["way"]], batch, float(question["seconds"]), least)
        except Exception as error:  # told to the race, whatever it was
            answer = {"error": f"{type(error).__name__}: {error}"[:400]}
        print(json.dumps(answer), flush=True)


def _rate(call: Call, batch: int, seconds: float, least: int) -> dict[str, Any]:
    """Whole calls for about `seconds`, after one that is not counted."""
    from dinorad_rt.benchmarking.energy import measure_energy

    start = time.perf_counter()
    call(1)
    once = time.perf_counter() - start
    calls = max(least, round(seconds / once))
    with measure_energy() as energy:
        start = time.perf_counter()
        call(calls)
        elapsed = time.perf_counter() - start
    images = calls * batch
    return {"images_per_s": images / elapsed, "joules_per_image": energy.per_image(images)}


def _pixels(job: Mapping[str, Any]) -> np.ndarray:
    shape = (job["batch"], 3, job["size"], job["size"])
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def _torch_type(job: Mapping[str, Any]) -> Any:
    import torch

    return {"bf16": torch.bfloat16, "fp32": torch.float32}[job["precision"]]


@contextmanager
def ours(job: Mapping[str, Any]) -> Iterator[Call]:
    """An engine of ours through its runner, copies in and out included."""
    from itertools import repeat

    from dinorad_rt.engines.manifest import Engine
    from dinorad_rt.runners.registry import open_runner

    pixels = _pixels(job)
    with open_runner(Engine.open(Path(job["engine"]))) as runner:

        def call(times: int) -> None:
            if job["latency"]:
                for _ in range(times):
                    runner.infer(pixels)
                return
            for _ in runner.infer_stream(repeat(pixels, times)):
                pass

        yield call


@contextmanager
def pytorch(job: Mapping[str, Any]) -> Iterator[Call]:
    """The timm module in eager mode or compiled, weights and input in the job's precision."""
    import torch

    from dinorad_rt.backbones.load import load_backbone

    torch.set_num_threads(job["threads"])
    dtype = _torch_type(job)
    backbone = load_backbone(job["model"], weights="random", image_size=job["size"])
    module: Any = backbone.module.to(dtype)
    if job["compile"]:
        module = torch.compile(module, mode="max-autotune", dynamic=False)
    pixels = torch.from_numpy(_pixels(job))

    def call(times: int) -> None:
        with torch.inference_mode():
            for _ in range(times):
                module(pixels.to(dtype)).float()

    yield call


@contextmanager
def onnxruntime(job: Mapping[str, Any]) -> Iterator[Call]:
    """Bare ONNX Runtime with its own defaults on an ONNX file."""
    import onnxruntime as runtime

    options = runtime.SessionOptions()
    options.intra_op_num_threads = job["threads"]
    session = runtime.InferenceSession(job["onnx"], options, providers=["CPUExecutionProvider"])
    pixels = _pixels(job)

    def call(times: int) -> None:
        for _ in range(times):
            session.run(None, {"pixel_values": pixels})

    yield call


@contextmanager
def openvino(job: Mapping[str, Any]) -> Iterator[Call]:
    """Bare OpenVINO tuned by hand: static batch, streams, a hint of precision, FP32 ONNX."""
    import openvino as ov

    core = ov.Core()
    model = core.read_model(job["onnx"])
    model.reshape({0: [job["batch"], 3, job["size"], job["size"]]})
    config = {
        "NUM_STREAMS": job["streams"],
        "INFERENCE_NUM_THREADS": job["threads"],
        "INFERENCE_PRECISION_HINT": {"bf16": "bf16", "fp32": "f32"}[job["precision"]],
        **job.get("config", {}),
    }
    compiled = core.compile_model(model, "CPU", config)
    pixels = _pixels(job)
    if job["latency"]:
        request = compiled.create_infer_request()

        def one_by_one(times: int) -> None:
            for _ in range(times):
                request.infer([pixels])

        yield one_by_one
        return
    queue = ov.AsyncInferQueue(compiled, job["streams"] + job.get("ahead", 1))

    def call(times: int) -> None:
        for _ in range(times):
            queue.start_async([pixels])
        queue.wait_all()

    yield call


@contextmanager
def product(job: Mapping[str, Any]) -> Iterator[Call]:
    """One square matrix product per call, by PyTorch: what the machine could do at best."""
    import torch

    torch.set_num_threads(job["threads"])
    dtype = _torch_type(job)
    left, right = (torch.randn(job["side"], job["side"]).to(dtype) for _ in range(2))

    def call(times: int) -> None:
        for _ in range(times):
            left @ right

    yield call


@contextmanager
def cuda_pytorch(job: Mapping[str, Any]) -> Iterator[Calls]:
    """The timm module on a GPU in FP16, eager (its fused attention) or max-autotune compiled."""
    import torch

    from dinorad_rt.backbones.load import load_backbone

    backbone = load_backbone(job["model"], weights="random", image_size=job["size"])
    module: Any = backbone.module.half().cuda()
    if job["compile"]:
        module = torch.compile(module, mode="max-autotune", dynamic=False)
    source = torch.from_numpy(_pixels(job)).pin_memory()
    resident = source.cuda().half()

    def run(times: int) -> None:
        with torch.inference_mode():
            for _ in range(times):
                module(resident)
                torch.cuda.synchronize()

    def with_copies(times: int) -> None:
        with torch.inference_mode():
            for _ in range(times):
                module(source.cuda(non_blocking=True).half()).float().cpu()

    with _in_turns(job):
        run(2)
        yield {"resident": run, "copies": with_copies}


@contextmanager
def cuda_ours(job: Mapping[str, Any]) -> Iterator[Calls]:
    """An engine of ours on a GPU, built first where it is not in the cache."""
    from itertools import repeat

    from dinorad_rt.engines.build import get_or_build
    from dinorad_rt.engines.profile import Profile
    from dinorad_rt.pipeline import EngineRequest, graph_for
    from dinorad_rt.runners.registry import open_runner

    request = EngineRequest(
        model=job["model"], weights="random", image_size=job["size"], precision=job["precision"]
    )
    graph = graph_for(request)
    profile = Profile(name="race", batch=job["batch"], options=job.get("options", {}))
    with _in_turns(job):
        engine = get_or_build(graph, backend=job["backend"], profile=profile)
    pixels = _pixels(job)
    with open_runner(engine) as runner:
        once = runner.resident_call()
        assert once is not None

        def run(times: int) -> None:
            for _ in range(times):
                once()

        def with_copies(times: int) -> None:
            for _ in runner.infer_stream(repeat(pixels, times)):
                pass

        yield {"resident": run, "copies": with_copies}


@contextmanager
def _in_turns(job: Mapping[str, Any]) -> Iterator[None]:
    """While many compile on one GPU, only one at a time measures which kernel is fastest."""
    import filelock
    from torch._inductor.runtime import benchmarking

    lock = filelock.FileLock(job["lock"])
    kinds: tuple[Any, ...] = (benchmarking.TritonBenchmarker, benchmarking.InductorBenchmarker)
    kept = {kind: kind.benchmark_gpu for kind in kinds if "benchmark_gpu" in vars(kind)}

    def alone(measure: Any) -> Any:
        def measured(*arguments: Any, **options: Any) -> Any:
            with lock:
                return measure(*arguments, **options)

        return measured

    for kind, measure in kept.items():
        kind.benchmark_gpu = alone(measure)
    try:
        yield
    finally:
        for kind, measure in kept.items():
            kind.benchmark_gpu = measure


KINDS: dict[str, Any] = {
    "cuda pytorch": cuda_pytorch,
    "cuda ours": cuda_ours,
    "ours": ours,
    "pytorch": pytorch,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "product": product,
}

if __name__ == "__main__":
    main()
