"""Whole processes, interleaved, medians: `python -m benchmarks [--prefix DIR] [--runs N]`.

The floor is what this interpreter costs by itself; every other figure is a ratio to something measured in
the same run, because machines differ and drift. Exits 1 where a limit is broken.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.injections import add_links, variables
from benchmarks.injections import make_environment as make_broken
from benchmarks.synthetic import make_environment
from tests.probes.checkpoints import DEPLOYED, config, shards
from tests.real import fake_nvml

JSON = ("-m", "cudadoctor", "check", "--format", "json", "--no-config")
TEXT = ("-m", "cudadoctor", "check", "--no-config")


class Run(NamedTuple):
    """One finished process."""

    seconds: float
    peak_mib: float


class Case(NamedTuple):
    """One command to time, by a short name, and one that is run after it and not timed."""

    name: str
    argv: tuple[str, ...]
    after: tuple[str, ...] = ()
    environ: dict[str, str] | None = None  #: where it is not that of the others


def time_once(argv: Sequence[str], environ: dict[str, str]) -> Run:
    """Run a command to its end and return its wall time and peak memory."""
    started = time.perf_counter()
    process = subprocess.Popen(argv, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, _, usage = os.wait4(process.pid, 0)
    return Run(time.perf_counter() - started, usage.ru_maxrss / 1024)


def measure(cases: Sequence[Case], runs: int, environ: dict[str, str]) -> dict[str, Run]:
    """Return each case's median time and peak memory; they take turns, after a round that does not count."""
    taken: dict[str, list[Run]] = {case.name: [] for case in cases}
    for number in range(runs + 1):
        for case in cases:
            run = time_once(case.argv, case.environ or environ)
            if case.after:
                time_once(case.after, environ)
            if number:
                taken[case.name].append(run)
    return {
        name: Run(statistics.median(r.seconds for r in rows), max(r.peak_mib for r in rows))
        for name, rows in taken.items()
    }


def main() -> int:
    """Measure, print and judge."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--prefix", default="", help="the environment to check (default: the active one)")
    parser.add_argument("--runs", type=int, default=15, help="counted rounds (default: 15)")
    options = parser.parse_args()
    _compile()
    with tempfile.TemporaryDirectory() as folder:
        with_a_driver = _with_a_driver(Path(folder))
        broken = _against_the_floor(options.prefix, options.runs, with_a_driver)
        broken += _of_launches(options.prefix, options.runs, with_a_driver)
    broken += _against_size(options.runs)
    broken += _against_check(options.runs)
    for line in broken:
        print(f"BROKEN: {line}")
    return 1 if broken else 0


def _compile() -> None:
    """Compile as pip does when it installs: a fresh checkout would be measured compiling."""
    import compileall

    import cudadoctor

    compileall.compile_dir(os.path.dirname(cudadoctor.__file__), quiet=2)
    for folder in cudadoctor.__path__:
        compileall.compile_dir(os.path.join(folder, "checks"), quiet=2)


def _with_a_driver(folder: Path) -> dict[str, str]:
    """Return the variables with an NVML that shows a GPU, so that asking it is measured on every machine."""
    if shutil.which("gcc") is None:
        print("without gcc no NVML is made: the driver's probe is not measured where there is none")
        return dict(os.environ)
    more = fake_nvml.installed(fake_nvml.build(folder), folder / "driver", fake_nvml.RTX_4090_LAPTOP)
    return {**os.environ, **more}


def _against_the_floor(prefix: str, runs: int, with_a_driver: dict[str, str]) -> list[str]:
    me = sys.executable
    target = ("--prefix", prefix) if prefix else ()
    cases = [
        Case("floor: import importlib.metadata", (me, "-c", "import importlib.metadata")),
        Case("floor: ... and rich.console", (me, "-c", "import importlib.metadata, rich.console")),
        Case("check --format json", (me, *JSON, *target), environ=with_a_driver),
        Case("check", (me, *TEXT, *target), environ=with_a_driver),
        Case("--help", (me, "-m", "cudadoctor", "--help")),
    ]
    python = f"{prefix}/bin/python" if prefix else "python3"
    peer = Case("torch.utils.collect_env", (python, "-m", "torch.utils.collect_env"))
    has_torch = subprocess.run([python, "-c", "import torch"], capture_output=True).returncode == 0
    environ = dict(os.environ)
    medians = measure(cases, runs, environ)
    if has_torch:
        medians |= measure([peer], 3, environ)
    for name, run in medians.items():
        print(f"{run.seconds * 1000:9.1f} ms {run.peak_mib:7.1f} MiB  {name}")
    json, text = medians["check --format json"], medians["check"]
    limits = [
        ("check --format json / floor", json.seconds / medians[cases[0].name].seconds, 3.0),
        ("check / floor with rich", text.seconds / medians[cases[1].name].seconds, 2.0),
        ("peak MiB of check", max(json.peak_mib, text.peak_mib), 60.0),
    ]
    if has_torch:
        limits.append(("check / torch collect_env", text.seconds / medians[peer.name].seconds, 0.1))
    else:
        print("skipped: the target has no torch to run collect_env with")
    return [line for row in limits if (line := _judge(*row))]


def _of_launches(prefix: str, runs: int, with_a_driver: dict[str, str]) -> list[str]:
    """Compare a preflight of vLLM, and a run of next to nothing, with the check of the environment alone."""
    target = ("--prefix", prefix) if prefix else ()
    me = (sys.executable, "-m", "cudadoctor")
    with tempfile.TemporaryDirectory() as folder:
        model = config(Path(folder, "model"), DEPLOYED["Qwen/Qwen2.5-32B-Instruct-AWQ"])
        (model / "tokenizer.json").write_text("{}")
        shards(model, [int(4.5 * (1 << 30))] * 4)  # all holes
        launch = ("vllm", "serve", str(model), "--max-model-len", "4096", "--gpu-memory-utilization", "0.75")
        cases = [
            Case("check --format json, again", (me[0], *JSON, *target), environ=with_a_driver),
            Case(
                "preflight --format json",
                (*me, "preflight", "--format", "json", "--no-config", *target, "--", *launch),
                environ=with_a_driver,
            ),
            Case(
                "run -- true",
                (*me, "run", "--no-config", "--fail-on", "never", *target, "--", "true"),
                environ=with_a_driver,
            ),
            Case("true", ("true",)),
        ]
        medians = measure(cases, runs, dict(os.environ))
    for name, run in medians.items():
        print(f"{run.seconds * 1000:9.1f} ms {run.peak_mib:7.1f} MiB  {name}")
    check, preflight, started, alone = (medians[case.name].seconds for case in cases)
    limits = [
        ("preflight / check --format json", preflight / check, 1.5),
        ("(run -- true) without true / check --format json", (started - alone) / check, 1.5),
    ]
    return [line for row in limits if (line := _judge(*row))]


def _against_size(runs: int) -> list[str]:
    """Compare small and large environments, and one with many more files in its packages."""
    with tempfile.TemporaryDirectory() as folder:
        small = make_environment(Path(folder, "small"), distributions=170, records=170, files=0)
        large = make_environment(Path(folder, "large"), distributions=1000, records=600, files=0)
        full = make_environment(Path(folder, "full"), distributions=170, records=170, files=20_000)
        places = {"170 of each": small, "1,000 and 600": large, "170, 20,000 files more": full}
        cases = [
            Case(name, (sys.executable, *JSON, "--prefix", str(place))) for name, place in places.items()
        ]
        medians = measure(cases, runs, dict(os.environ))
    for name, run in medians.items():
        print(f"{run.seconds * 1000:9.1f} ms {run.peak_mib:7.1f} MiB  environment with {name}")
    base = medians["170 of each"].seconds
    limits = [
        ("1,000 distributions and 600 records / 170 of each", medians["1,000 and 600"].seconds / base, 4.0),
        ("20,000 files more / without them", medians["170, 20,000 files more"].seconds / base, 1.15),
    ]
    return [line for row in limits if (line := _judge(*row))]


def _against_check(runs: int) -> list[str]:
    """Compare a plan with the check it starts from, and carrying it out, fsync included, with the plan."""
    if shutil.which("gcc") is None:
        print("skipped: gcc is needed to make an environment that is broken")
        return []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        make_broken(root)
        add_links(root, 8)
        environ, target = variables(root), ("--prefix", str(root / "env"))
        me = (sys.executable, "-m", "cudadoctor")
        undo = (*me, "undo", *target)
        cases = [
            Case("check of a broken environment", (me[0], *TEXT, *target)),
            Case("fix", (*me, "fix", "--no-config", *target)),
            Case("fix --apply: ten links, six files", (*me, "fix", "--no-config", *target, "--apply"), undo),
        ]
        medians = measure(cases, runs, environ)
    for name, run in medians.items():
        print(f"{run.seconds * 1000:9.1f} ms {run.peak_mib:7.1f} MiB  {name}")
    check, plan, apply = (medians[case.name].seconds for case in cases)
    limits = [
        ("fix / check", plan / check, 1.6),
        ("ms of fix --apply beyond fix", (apply - plan) * 1000, 50.0),
    ]
    return [line for row in limits if (line := _judge(*row))]


def _judge(name: str, value: float, limit: float) -> str:
    line = f"{value:6.2f}  (limit {limit:g})  {name}"
    print(line)
    return "" if value <= limit else line.strip()


if __name__ == "__main__":
    raise SystemExit(main())
