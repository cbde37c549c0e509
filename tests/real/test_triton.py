"""Triton's own ptxas on a small piece of PTX, against what the check says of a GPU that is not here.

CUDADOCTOR_STACK=/path/to/venv python -m pytest -m stack
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .conftest import _do_without
from .fake_nvml import build, card, installed

pytestmark = pytest.mark.stack
PTX = ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k() { ret; }\n"
#: Triton's own choice for a GPU, and the option that it gives it.
CHOICE = """
import inspect, json, sys
from triton.backends.nvidia import compiler
capability = int(sys.argv[1])
several = inspect.signature(compiler.get_ptxas).parameters
tool = compiler.get_ptxas(capability) if several else compiler.get_ptxas()
print(json.dumps([tool.path, tool.version, compiler.sm_arch_from_capability(capability)]))
"""
CHECK = "triton-ptxas-too-old"


@pytest.fixture(scope="module")
def stack() -> Path:
    named = os.environ.get("CUDADOCTOR_STACK")
    if not named:
        pytest.skip("CUDADOCTOR_STACK names no environment")
    return Path(named)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return build(tmp_path_factory.mktemp("nvml"))
    except FileNotFoundError as missing:
        _do_without(str(missing))


@pytest.mark.parametrize("named", [None, "", "/nowhere/ptxas", "/bin/true", "ours"])
@pytest.mark.parametrize("capability", ["9.0", "10.0", "10.3", "11.0", "12.0", "12.1"])
def test_a_kernel_compiles_where_the_check_is_silent(
    stack: Path, library: Path, tmp_path: Path, capability: str, named: str | None
) -> None:
    held = installed(library, tmp_path / "driver", card("NVIDIA GPU", capability, 32), "595.45.04")
    held |= {"VIRTUAL_ENV": str(stack), "PATH": f"{stack}/bin:/usr/bin:/bin", "TRITON_HOME": str(tmp_path)}
    if named == "ours":
        own = next(stack.glob("lib/python3*/site-packages/triton/backends/nvidia/bin"))
        named = str(max(own.glob("ptxas*")))
    for variable in ("TRITON_PTXAS_PATH", "TRITON_PTXAS_BLACKWELL_PATH"):
        held.pop(variable, None)
        if named is not None:
            held[variable] = named
    told = check(held)
    if (raised := choice(stack, capability, held)) is None:
        assert named == "" and "Permission denied" in told["findings"][0]["summary"], told
        return
    path, version, arch = raised
    (tmp_path / "kernel.ptx").write_text(PTX)
    real = [path, f"--gpu-name={arch}", str(tmp_path / "kernel.ptx"), "-o", str(tmp_path / "kernel")]
    ran = subprocess.run(real, capture_output=True, text=True)
    refused = f"Value '{arch}' is not defined" in ran.stdout + ran.stderr
    assert refused or ran.returncode == 0, ran
    assert told["outcome"] == ("failed" if refused else "passed"), told
    if refused:
        (finding,) = told["findings"]
        assert f"ptxas {version} does not know" in finding["summary"]
        assert finding["evidence"][0]["source"].endswith(path.rpartition("site-packages")[2])


def choice(stack: Path, capability: str, held: dict[str, str]) -> tuple[str, str, str] | None:
    """Return Triton's ptxas, its version and the architecture that it is given; None where Triton raises."""
    argv = [f"{stack}/bin/python", "-B", "-c", CHOICE, capability.replace(".", "")]
    ran = subprocess.run(argv, capture_output=True, text=True, env=held)
    if "PermissionError" in ran.stderr:
        return None
    assert ran.returncode == 0, ran.stderr
    path, version, arch = json.loads(ran.stdout.splitlines()[-1])
    return path, version, arch


def check(held: dict[str, str]) -> dict[str, Any]:
    argv = [sys.executable, "-m", "cudadoctor", "check", "--no-config", "--format", "json", CHECK]
    ran = subprocess.run(argv, capture_output=True, text=True, env=held)
    (outcome,) = json.loads(ran.stdout)["outcomes"]
    assert isinstance(outcome, dict)
    return outcome
