"""How long `--help` of every verb takes, cold interpreter each time. Bar: 0.5 s.

Compiled modules are kept, as Python does unless it is told not to; the first run makes them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from benchmarks.harness import save, table

VERBS = [
    "",
    *"doctor list inspect prepare export build verify embed eval compare".split(),
    *"train bundle predict bench report cache".split(),
]


def main() -> None:
    """Time each verb five times; report the median and the worst."""
    rows = []
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    for verb in VERBS:
        words = [sys.executable, "-m", "dinorad_rt", *([verb] if verb else []), "--help"]
        subprocess.run(words, check=True, capture_output=True, env=kept)
        seconds = []
        for _ in range(5):
            start = time.perf_counter()
            subprocess.run(words, check=True, capture_output=True, env=kept)
            seconds.append(time.perf_counter() - start)
        seconds.sort()
        rows.append({"verb": verb or "(none)", "median_s": seconds[2], "worst_s": seconds[-1]})
    table(rows)
    save("startup", {"bar_s": 0.5, "rows": rows})


if __name__ == "__main__":
    main()
