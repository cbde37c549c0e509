"""FlashInfer's own builds, without a GPU: they fail, pass after `fix --apply`, fail again after `undo`.

    CUDADOCTOR_STACK=/path/to/venv python -m pytest -m stack

The environment that is repaired is a scratch one, in which the stack's packages are links. The stack itself
is read only. Each build has a workspace of its own where it matters that no cache hides what it does.
"""

import re
import subprocess
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import msgspec
import pytest

from .pip_prefix import make_venv, site_packages
from .test_caches_of_flashinfer import writes_anew
from .test_checks_on_prefixes import clean
from .test_crashing_compiler import CRASH, LIMIT_KIB, activation, chain
from .test_fix_on_prefixes import fixed, program, snapshot, undone
from .test_flashinfer import BUILD, stack, stub, toolkit

pytestmark = pytest.mark.stack
__all__ = ["stack", "stub", "toolkit"]

#: FlashInfer's own way to build sources of somebody's.
BUILD_SOURCES = """
import sys
from flashinfer.jit.core import gen_jit_spec
gen_jit_spec("chain", sys.argv[1:]).build(verbose=False)
"""


class Patient(msgspec.Struct):
    """A scratch environment with the stack's packages, and the variables of whoever starts builds in it."""

    prefix: Path
    stack: Path
    variables: dict[str, str]
    scratch: Path
    numbers: Iterator[int]

    def build(self, program_text: str, *argv: str, fresh: bool = True, **more: str) -> str:
        """Let FlashInfer build in a shell that was activated; return its complaint, "" for none."""
        environ = clean(**self.variables, CONDA_PREFIX=str(self.prefix), **more)
        if fresh:
            environ["FLASHINFER_WORKSPACE_BASE"] = str(self.scratch / f"work{next(self.numbers)}")
        command = ["bash", "--norc", "-c", f'{activation(self.prefix)}\nexec "$@"', "bash"]
        command += [f"{self.stack}/bin/python", "-c", program_text, *argv]
        ran = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=600)
        return ran.stdout + ran.stderr if ran.returncode else ""


def with_stack(prefix: Path, stack: Path, cuda_home: Path, scratch: Path) -> Patient:
    """Lead links in an environment to the stack's own FlashInfer and torch."""
    for pattern in ("flashinfer", "flashinfer_python-*.dist-info", "torch", "torch-*.dist-info"):
        (package,) = site_packages(stack).glob(pattern)
        (site_packages(prefix) / package.name).symlink_to(package)
    variables = {
        "PATH": f"{stack}/bin:/usr/bin:/bin",  # the stack's ninja, and nobody's nvcc
        "CUDA_HOME": str(cuda_home),
        "FLASHINFER_CUDA_ARCH_LIST": "8.6",
        "FLASHINFER_WORKSPACE_BASE": str(scratch / "work"),
        "MAX_JOBS": "2",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return Patient(prefix, stack, variables, scratch, count())


def missing(said: str) -> list[str]:
    """Return the libraries that the linker says it cannot find."""
    return sorted(set(re.findall(r"cannot find -l(\w+)", said)))


# --- links --------------------------------------------------------------------------------------------------


@pytest.mark.download
def test_a_build_links_against_conda_after_fix_and_fails_again_after_undo(
    conda13: Path, stack: Path, tmp_path: Path
) -> None:
    patient = with_stack(conda13, stack, conda13, tmp_path)
    before = snapshot(conda13)
    assert missing(patient.build(BUILD, "silu")) == ["cuda", "cudart"]
    done = fixed(conda13, **patient.variables)
    assert {"cudart-link-missing", "libcuda-link-missing"} <= set(done["cleared"])
    assert patient.build(BUILD, "silu") == ""
    undone(conda13, **patient.variables)
    assert missing(patient.build(BUILD, "silu")) == ["cuda", "cudart"]
    assert snapshot(conda13) == before


def test_a_build_links_against_the_runtime_of_cuda_12(
    conda_cudart12: Path, stack: Path, toolkit: Path, tmp_path: Path
) -> None:
    torch = (site_packages(stack) / "torch/version.py").read_text()
    if not re.search(r"^cuda.*'12\.", torch, re.MULTILINE):
        pytest.skip("this stack's torch is not built for CUDA 12")
    patient = with_stack(conda_cudart12, stack, conda_cudart12, tmp_path)
    # No wheel has an nvcc 12: a newer one, which has its own headers, makes the objects that are linked.
    patient.variables["FLASHINFER_NVCC"] = f"{toolkit}/bin/nvcc"
    before = snapshot(conda_cudart12)
    assert missing(patient.build(BUILD, "silu")) == ["cuda", "cudart"]
    fixed(conda_cudart12, **patient.variables)
    assert patient.build(BUILD, "silu") == ""
    undone(conda_cudart12, **patient.variables)
    assert missing(patient.build(BUILD, "silu")) == ["cuda", "cudart"]
    assert snapshot(conda_cudart12) == before


# --- a crash ------------------------------------------------------------------------------------------------


@pytest.fixture
def crashing(work: Path, stack: Path, toolkit: Path, stub: Path, gxx: str, tmp_path: Path) -> Patient:
    """Return a venv whose compiler, a wrapper named by CC and CXX, lowers its own hard limit on the stack."""
    wrapper = tmp_path / "low-g++"
    wrapper.write_text(f'#!/bin/bash\nulimit -s {LIMIT_KIB}\nexec {gxx} "$@"\n')
    wrapper.chmod(0o755)
    for suffix in ("cc", "cu"):
        (tmp_path / f"chain.{suffix}").write_text(chain(f"chain_{suffix}"))
    patient = with_stack(make_venv(tmp_path / "venv", (), work), stack, toolkit, tmp_path)
    patient.variables |= {"CC": str(wrapper), "CXX": str(wrapper), "LIBRARY_PATH": str(stub)}
    return patient


def test_a_compiler_that_crashes_in_flashinfers_build_does_not_after_fix(crashing: Patient) -> None:
    sources = [f"{crashing.scratch}/chain.{suffix}" for suffix in ("cc", "cu")]
    for source in sources:
        assert CRASH in crashing.build(BUILD_SOURCES, source, CXXFLAGS="-O1", CFLAGS="-O1"), source
    assert CRASH in crashing.build(BUILD_SOURCES, *sources, fresh=False)
    workspace = Path(crashing.variables["FLASHINFER_WORKSPACE_BASE"])
    (operator,) = workspace.glob(".cache/flashinfer/*/*/cached_ops/chain")
    before = snapshot(crashing.prefix)
    done = fixed(crashing.prefix, "--deep", "--unsafe", "host-compiler-crash", **crashing.variables)
    assert done["cleared"] == ["host-compiler-crash"]
    assert operator.exists() == writes_anew(crashing.stack), "a build.ninja that says -O3 for good goes aside"
    assert crashing.build(BUILD_SOURCES, *sources, fresh=False) == ""
    if not writes_anew(crashing.stack):
        refused = program("undo", "--prefix", str(crashing.prefix), **crashing.variables)
        assert refused.returncode == 2 and f"{operator}: is there again" in refused.stderr
    undo = program("undo", "--force", "--prefix", str(crashing.prefix), **crashing.variables)
    assert (undo.returncode, undo.stderr) == (0, "")
    for fresh in (True, False):
        assert CRASH in crashing.build(BUILD_SOURCES, *sources, fresh=fresh), fresh
    assert snapshot(crashing.prefix) == before
