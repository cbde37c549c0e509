"""Prefixes of every kind, nested in any order, are taken off; what the program said is left as it is."""

import random

import pytest

from cudadoctor.explain.lines import WINDOW, bare, clean, excerpt

SAID = "RuntimeError: CUDA error: no kernel image is available for execution on the device"
PREFIXES = (
    "vllm-1  | ", "vllm_1       | ", "[pod/vllm-0/server] ", "2026-01-22T20:00:36.123456789Z ",
    "2026-01-22T20:00:36.1Z stderr F ", "[2025-03-10T15:10:20Z] ", "2025-08-04 08:20:08,123 ",
    "2025-08-04 08:20:08.1+00:00 - ", "Nov 28 17:40:08 gpu-7 docker[123]: ", "20:00:36 ",
    "(EngineCore pid=12) ", "(EngineCore_DP0 pid=68) ", "(Worker_TP0 pid=1) ", "(APIServer pid=1) ",
    "(VllmWorker rank=5 pid=9500) ", "(RayWorkerWrapper pid=700, ip=10.0.0.10) ",
    "[rank0]: ", "[rank12]:", "[1,0]<stderr>:",
    "ERROR 03-02 19:50:00 [multiproc_executor.py:783] ", "WARNING 06-28 06:12:45 worker_base.py:145] ",
    "ERROR 01-22 12:00:36.8 [import_utils.py:85] ", "E1105 18:15:29.3 9336 triton_heuristics.py:715] ",
    "[rank0]:[W515 07:10:42.8 ProcessGroupNCCL.cpp:1117] ", "DEBUG ", "#12 34.567 ", "##[error]",
    "E           ", "  │ ", "  ╰─▶ ", "[0;36m", "\x1b[1;36m", "\x1b]8;;x\x07",
    "\x1b[0;36m(EngineCore pid=1)\x1b[0;0m ",
    "2024-05-30T01:02:03.123456Z 00O ", "2024-05-30T01:02:03.123456Z 01E+", "_bk;t=1732240923123\x07",
    "build\tRun tests\t2026-11-22T01:02:03.1234567Z ", "2026-01-22T20:00:36+0000 gpu-7 vllm[12]: ",
    "[2026-11-22 01:02:03 TP0] ", "[2026-11-22 01:02:03 DP0 TP1 EP1] ", "(raylet) ",
    "(pid=123, ip=10.0.0.1) ", "[default0]:", "[ERROR] ", "[TensorRT-LLM][ERROR] ",
    "2023-10-05 01:30:25.831 | ERROR    | vllm.engine:run:12 - ", "10%|#     | 1/10 [00:01<00:09]\r",
)  # fmt: skip


@pytest.mark.parametrize("prefix", PREFIXES)
def test_one_prefix_is_taken_off(prefix: str) -> None:
    line = f"{prefix}{SAID}".encode()
    assert clean(line, line.index(b"no kernel")) == SAID


def test_prefixes_in_any_nesting_are_taken_off() -> None:
    rng = random.Random(3)
    nesting = [each for each in PREFIXES if not each.endswith("\r") and "E   " not in each]
    for _ in range(500):
        line = "".join(rng.choices(nesting, k=rng.randrange(2, 5))) + SAID
        assert clean(line.encode(), line.encode().index(b"no kernel")) == SAID, line


@pytest.mark.parametrize(
    "said",
    (
        "/usr/bin/ld: cannot find -lcuda", "Killed", "E: unable to locate package", "(required by x.so)",
        "nvcc fatal   : Value 'sm_121a' is not defined", "x.cu(12): error: y", "[1/4] nvcc -c x.cu",
        "ERROR: Could not install packages", "INFO: all is well", "0: y", "std::runtime_error: a | b",
    ),
)  # fmt: skip
def test_what_a_program_says_is_not_taken_for_a_prefix(said: str) -> None:
    assert bare(said) == said


def test_a_line_that_is_all_prefixes_ends_quickly() -> None:
    assert bare("(A pid=1) " * 10_000).startswith("(A pid=1)")
    assert clean(b"[rank0]:" * 100_000, 400_000) is not None


def test_only_the_part_around_it_is_looked_at() -> None:
    line = b"a" * 100_000 + b" Killed " + b"b" * 100_000
    assert len(clean(line, 100_002)) <= 2 * WINDOW


def test_an_excerpt_holds_what_was_found() -> None:
    text = "word " * 500 + "needle" + " word" * 500
    assert "needle" in excerpt(text, "needle")
    assert excerpt("short", "needle") == "short"
