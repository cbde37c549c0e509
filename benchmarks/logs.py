"""How fast `explain` reads a large log: `python -m benchmarks.logs [--mib 1024] [--runs 3]`.

A log of a long-running server is written to a temporary folder, with a failure near its end; `cudadoctor
explain --no-check` reads it on one core, and `grep -cE` looks for one pattern in the same file. Printed are
both in MB/s, the peak memory, and the ratio; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

PATTERN = "cannot find -l(cudart|cuda)|undefined symbol: _ZN"
LEAST_MB_S = 50
MOST_MIB = 80


def write_log(path: Path, size: int) -> None:
    """Write about `size` bytes of what vLLM prints in weeks, and the end of it."""
    rng = random.Random(7)
    with path.open("w") as stream:
        written = 0
        while written < size:
            lines = "".join(_line(rng) for _ in range(2000))
            for _ in range(8):
                written += stream.write(lines)
        stream.write(
            "(EngineCore pid=12) ERROR 09-28 15:50:24 [core.py:718] /usr/bin/ld: cannot find -lcudart\n"
        )


def _line(rng: random.Random) -> str:
    pid, second = rng.randrange(99999), f"{rng.randrange(24):02}:{rng.randrange(60):02}:07"
    kind = rng.randrange(20)
    if kind == 0:
        path = "/opt/venv/lib/python3.12/site-packages/vllm/v1/worker/gpu_worker.py"
        return f'(EngineCore_DP0 pid={pid}) ERROR 09-28 {second} [core.py:718]   File "{path}", line 180\n'
    if kind == 1:
        return (
            f"Loading safetensors checkpoint shards:  {rng.randrange(100)}% Completed | 1/4 [00:00<00:01]\n"
        )
    if kind < 8:
        address = f"10.0.{rng.randrange(255)}.{rng.randrange(255)}:{rng.randrange(65535)}"
        return f'(APIServer pid={pid}) INFO:     {address} - "POST /v1/chat/completions HTTP/1.1" 200 OK\n'
    return (
        f"(APIServer pid={pid}) INFO 09-28 {second} [loggers.py:123] Engine 000: Avg prompt throughput: "
        f"{rng.randrange(9000) / 10} tokens/s, Running: {rng.randrange(99)} reqs, GPU KV cache usage: 3.1%\n"
    )


def timed(argv: Sequence[str], log: Path) -> tuple[float, float]:
    """Return seconds and peak MiB of one command on one core."""
    started = time.perf_counter()
    process = subprocess.Popen([*argv, str(log)], stdout=subprocess.DEVNULL, preexec_fn=_one_core)
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0
    return time.perf_counter() - started, usage.ru_maxrss / 1024


def _one_core() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def main() -> int:
    """Write the log, take turns with grep, and print the best of each."""
    parser = argparse.ArgumentParser(description="How fast explain reads a large log.")
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    explain = [sys.executable, "-m", "cudadoctor", "explain", "--no-check"]
    grep = ["env", "LC_ALL=C", "grep", "-cE", PATTERN]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "serve.log")
        write_log(log, options.mib << 20)
        size = log.stat().st_size / 1e6
        timed(grep, log)  # the file is in memory from here on
        runs = [(timed(explain, log), timed(grep, log)) for _ in range(options.runs)]
    ours = size / min(seconds for (seconds, _), _ in runs)
    theirs = size / min(seconds for _, (seconds, _) in runs)
    peak = max(memory for (_, memory), _ in runs)
    print(
        f"log of {size:.0f} MB: explain {ours:.0f} MB/s in {peak:.0f} MiB, "
        f"grep -cE of one pattern {theirs:.0f} MB/s"
    )
    print(f"wanted: {LEAST_MB_S} MB/s, {MOST_MIB} MiB at most")
    print(json.dumps({"mb_s": ours, "grep_mb_s": theirs, "ratio": ours / theirs, "peak_mib": peak}))
    return 0 if ours >= LEAST_MB_S and peak <= MOST_MIB else 1


if __name__ == "__main__":
    sys.exit(main())
