"""FlashInfer's own just-in-time build, without a GPU, against what the checks say of it.

    CUDADOCTOR_STACK=/path/to/venv python -m pytest -m stack

The venv holds torch and flashinfer-python; a toolkit with nvcc is the machine's own (/usr/local/cuda-*).
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.stack

BUILD = """
import sys
import flashinfer.jit as jit
spec = {
    "silu": lambda: jit.activation.gen_act_and_mul_module("silu"),
    "sampling": lambda: jit.sampling.gen_sampling_module(),
    "norm": lambda: jit.norm.gen_norm_module(),
}[sys.argv[1]]()
spec.build(verbose=False)
"""


@pytest.fixture(scope="module")
def stack() -> Path:
    """Return the venv with the real stack."""
    named = os.environ.get("CUDADOCTOR_STACK")
    if not named:
        pytest.skip("CUDADOCTOR_STACK names no venv with torch and flashinfer-python")
    return Path(named)


@pytest.fixture(scope="module")
def toolkit() -> Path:
    """Return the machine's own toolkit."""
    found = sorted(Path("/usr/local").glob("cuda-*/bin/nvcc"))
    if not found:
        pytest.skip("no /usr/local/cuda-*/bin/nvcc on this machine")
    return found[-1].parents[1]


@pytest.fixture
def environ(stack: Path, toolkit: Path, tmp_path: Path) -> dict[str, str]:
    """Return an active environment with nvcc behind a script, and FlashInfer's caches in a folder of ours."""
    folder = tmp_path / "local/bin"
    folder.mkdir(parents=True)
    (folder / "nvcc").write_text(f'#!/bin/sh\nexec {toolkit}/bin/nvcc "$@"\n')
    (folder / "nvcc").chmod(0o755)
    return {
        "PATH": f"{stack}/bin:{folder}:/usr/bin:/bin",
        "HOME": os.environ["HOME"],
        "VIRTUAL_ENV": str(stack),
        "FLASHINFER_CUDA_ARCH_LIST": "8.6",
        "FLASHINFER_WORKSPACE_BASE": str(tmp_path / "work"),
        "MAX_JOBS": "2",
        "LC_ALL": "C",
    }


def check(environ: dict[str, str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "cudadoctor", "check", "--no-config", "--format", "json"]
    ran = subprocess.run(command, capture_output=True, text=True, env=environ)
    return {outcome["check"]: outcome for outcome in json.loads(ran.stdout)["outcomes"]}


def build(operator: str, stack: Path, environ: dict[str, str]) -> str:
    """Let FlashInfer build one operator; return what it complains of, "" where it succeeds."""
    command = [f"{stack}/bin/python", "-c", BUILD, operator]
    ran = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=900)
    return ran.stdout + ran.stderr if ran.returncode else ""


def test_the_link_fails_as_the_checks_say(stack: Path, environ: dict[str, str]) -> None:
    found = check(environ)
    assert found["cuda-home-wrong"]["outcome"] == "failed"
    said = build("silu", stack, environ)
    for name, library in (("cudart-link-missing", "cudart"), ("libcuda-link-missing", "cuda")):
        predicted = found[name]["outcome"] == "failed"
        assert predicted == bool(re.search(rf"cannot find -l{library}\b", said)), said


@pytest.fixture
def stub(tmp_path: Path) -> Path:
    """Return a folder with a stub of the driver library, for machines whose toolkit has none."""
    folder = tmp_path / "stubs"
    folder.mkdir()
    source = "int cuInit(unsigned f) { return 34; }\n"
    make = [
        "gcc",
        "-shared",
        "-fPIC",
        "-x",
        "c",
        "-",
        "-Wl,-soname,libcuda.so.1",
        "-o",
        f"{folder}/libcuda.so",
    ]
    subprocess.run(make, input=source, text=True, check=True)
    return folder


def test_the_cures_work(stack: Path, environ: dict[str, str], stub: Path) -> None:
    home = check(environ)["cuda-home-wrong"]["findings"][0]["remedies"][0]["values"]
    cured = {**environ, **home, "LIBRARY_PATH": str(stub)}
    found = check(cured)
    for name in ("cuda-home-wrong", "cudart-link-missing", "libcuda-link-missing"):
        assert found[name]["outcome"] == "passed", found[name]
    assert build("silu", stack, cured) == ""


def test_a_missing_header_is_named_and_its_cure_works(
    stack: Path, environ: dict[str, str], toolkit: Path, stub: Path
) -> None:
    right = {**environ, "CUDA_HOME": str(toolkit), "LIBRARY_PATH": str(stub)}
    headers = check(right)["cuda-headers-missing"]
    if headers["outcome"] == "passed":
        pytest.skip("this toolkit has every header")
    finding = headers["findings"][0]
    assert "curand.h" in finding["summary"]
    assert "curand.h: No such file" in build("sampling", stack, right)
    remedy = finding["remedies"][0]
    if remedy["fix"] != "include-path":
        pytest.skip("no folder of the same CUDA version has the headers")
    assert build("sampling", stack, {**right, **remedy["values"]}) == ""
