"""Exact kNN against faiss-cpu's flat index, same data, same process, interleaved.

10,000 queries against 100,000 × 384 normalised vectors. Bar: at least 0.8 of faiss's rate, and a
peak memory that does not grow with the number of queries.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from benchmarks.harness import interleave, matmul_ceiling, median_of_ratios, run_python, save, table

MEMORY = """
import json, re
from pathlib import Path
import numpy as np
from dinorad_rt.protocols.knn import neighbours

def status(name):
    return int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1e3

random = np.random.default_rng(0)
reference = random.standard_normal(({reference}, {dim}), dtype="f4")
queries = random.standard_normal(({queries}, {dim}), dtype="f4")
neighbours(queries[:8], reference[:64], 20)
Path("/proc/self/clear_refs").write_text("5")
before = status("VmRSS")
found = neighbours(queries, reference, 20)
outputs = sum(part.nbytes for part in found) / 1e6
print(json.dumps({{
    "working_mb": status("VmHWM") - before - outputs,
    "inputs_mb": (reference.nbytes + queries.nbytes) / 1e6,
    "outputs_mb": outputs,
}}))
"""


def main() -> None:
    """Compare rates and neighbours, then memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--reference", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    ceiling = matmul_ceiling("float32")
    rows = [_compare(arguments, k) for k in (20, 200)]
    for row in rows:
        row["share_of_matmul"] = row.pop("tflops") / ceiling
    table(rows)
    memory = [{"queries": n, **_memory(arguments, n)} for n in (1_000, 10_000, 40_000)]
    table(memory)
    save("knn", {"matmul_tflops": ceiling, "bar": 0.8, "rows": rows, "memory": memory})


def _compare(arguments: argparse.Namespace, k: int) -> dict[str, Any]:
    import faiss

    from dinorad_rt.protocols.knn import neighbours

    random = np.random.default_rng(0)
    reference = _unit(random.standard_normal((arguments.reference, arguments.dim), dtype="f4"))
    queries = _unit(random.standard_normal((arguments.queries, arguments.dim), dtype="f4"))
    index = faiss.IndexFlatIP(arguments.dim)
    index.add(reference)
    seconds = interleave(
        {
            "ours": lambda: neighbours(queries, reference, k),
            "faiss": lambda: index.search(queries, k),
        },
        rounds=arguments.rounds,
    )
    same = np.mean(neighbours(queries[:500], reference, k)[1] == index.search(queries[:500], k)[1])
    flop = 2 * arguments.queries * arguments.reference * arguments.dim
    return {
        "k": k,
        "ours_s": min(seconds["ours"]),
        "faiss_s": min(seconds["faiss"]),
        "rate_ours_over_faiss": median_of_ratios(seconds["faiss"], seconds["ours"]),
        "same_neighbours": float(same),
        "tflops": flop / min(seconds["ours"]) / 1e12,
    }


def _memory(arguments: argparse.Namespace, queries: int) -> dict[str, Any]:
    """Peak above inputs and outputs, most of it the normalised reference (Linux only)."""
    return run_python(MEMORY.format(**vars(arguments) | {"queries": queries}))


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


if __name__ == "__main__":
    main()
