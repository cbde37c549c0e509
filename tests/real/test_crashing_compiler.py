"""GCC really crashes under a low hard limit on the stack: what gets a build past it, and what does not.

The source has the vectoriser recurse at -O3, and is built by the commands that FlashInfer and torch hand to
their ninja. Nothing stands in for a compiler: the crash is GCC's own.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from .pip_prefix import make_venv, plant_distribution, plant_torch
from .test_checks_on_prefixes import clean
from .test_fix_on_prefixes import program, undone
from .test_flashinfer import toolkit

__all__ = ["toolkit"]

#: At -O3 cc1plus takes more than 1 MiB of stack for the chain, at -O2 and -O1 less than 512 KiB.
LIMIT_KIB = 768
#: What GCC's driver raises the soft limit to by itself, as far as the hard one allows.
ENOUGH_KIB = 64 << 10
LOWER = ("bash", "-c", f'ulimit -s {LIMIT_KIB} && exec "$@"', "bash")
CRASH = "internal compiler error: Segmentation fault signal terminated program cc1plus"
NAME = "host-compiler-crash"

#: FlashInfer 0.5 to 0.7: its own level, and behind it the words of its two variables.
CXX = (
    "c++ -MMD -MF c.d -fPIC -std=c++17 -Wno-switch-bool -DNDEBUG -O3 $FLASHINFER_EXTRA_CFLAGS "
    "-c chain.cc -o c.o"
)
NVCC = (
    "$CUDA_HOME/bin/nvcc --generate-dependencies-with-compile -MF n.d --compiler-options=-fPIC "
    "--expt-relaxed-constexpr -std=c++17 --threads=1 -use_fast_math -DNDEBUG -O3 "
    "-gencode=arch=compute_86,code=sm_86 $FLASHINFER_EXTRA_CUDAFLAGS -c chain.cu -o n.o"
)
#: torch.utils.cpp_extension with extra_cuda_cflags=["-O3"], as vLLM and others call it.
OF_TORCH = (
    "$CUDA_HOME/bin/nvcc --generate-dependencies-with-compile --dependency-output t.d "
    "-DTORCH_API_INCLUDE_EXTENSION_H --expt-relaxed-constexpr -gencode=arch=compute_86,code=sm_86 "
    "--compiler-options '-fPIC' -O3 -std=c++17 -c chain.cu -o t.o"
)


def chain(name: str, links: int = 1000) -> str:
    """Return a function of this name: a chain of `links` dependent operations inside a loop."""
    operations = "".join(f"    t = t * b[i + {link % 64}] + {link}.5f;\n" for link in range(links))
    return f"""\
void {name}(float* __restrict a, const float* __restrict b, int n) {{
  for (int i = 0; i < n; ++i) {{
    float t = b[i];
{operations}    a[i] = t;
  }}
}}
"""


def activation(prefix: Path) -> str:
    """Return the line that activates an environment, of conda's only what cudadoctor has written."""
    if (prefix / "conda-meta").exists():
        script = f"{prefix}/etc/conda/activate.d/cudadoctor.sh"
        return f"if [ -e '{script}' ]; then . '{script}'; fi"
    return f". '{prefix}/bin/activate'"


class Patient(msgspec.Struct):
    """An environment whose builds crash: its folder, its variables, and where the sources are."""

    prefix: Path
    variables: dict[str, str]
    sources: Path

    def build(self, line: str, first: str = "", limit: str = f"-s {LIMIT_KIB}") -> str:
        """Run a build in a shell that has run `first`; return what is said where it fails."""
        script = f"{first}\nulimit {limit}\n{line}"
        command = ["bash", "--norc", "-e", "-c", script]
        environ = clean(**self.variables, CONDA_PREFIX=str(self.prefix))
        ran = subprocess.run(command, cwd=self.sources, capture_output=True, text=True, env=environ)
        return ran.stdout + ran.stderr if ran.returncode else ""

    @property
    def launch(self) -> str:
        """Return the line of a launch script."""
        command = f"'{sys.executable}' -m cudadoctor env {NAME} --no-config --prefix '{self.prefix}'"
        return f'eval "$({command})"'

    def fixed(self) -> list[str]:
        """Let fix do what it can about the crash, under the limit; return the names of what it sets."""
        common = ("--prefix", str(self.prefix), "--no-config")
        asked = ("fix", "--deep", "--unsafe", "--apply", "--format", "json", NAME)
        ran = program(*asked, *common, before=LOWER, **self.variables)
        assert ran.stderr == ""
        done = json.loads(ran.stdout)
        assert done["cleared"] == done["predicted_cleared"] == [NAME]
        exports = program("env", "--shell", "json", NAME, *common, **self.variables)
        return sorted(json.loads(exports.stdout))


def patient_at(prefix: Path, cuda_home: Path, scratch: Path, *, flashinfer: bool = True) -> Patient:
    """Return an environment with torch's metadata, and FlashInfer's, that uses this toolkit."""
    plant_torch(prefix, "2.14.1+cu130", "13.0")
    if flashinfer:
        plant_distribution(prefix, "flashinfer-python", "0.7.2.post1")
    for suffix in ("cc", "cu"):
        (scratch / f"chain.{suffix}").write_text(chain(f"chain_{suffix}"))
    return Patient(prefix, {"CUDA_HOME": str(cuda_home)}, scratch)


@pytest.fixture
def patient(work: Path, tmp_path: Path, gxx: str) -> Patient:
    """Return a venv, and a toolkit that no kernel is compiled with."""
    root = tmp_path / "cuda"
    (root / "bin").mkdir(parents=True)
    (root / "bin/nvcc").write_text("#!/bin/sh\nexit 1\n")
    (root / "bin/nvcc").chmod(0o755)
    return patient_at(make_venv(tmp_path / "venv", (), work), root, tmp_path)


@pytest.fixture(params=["own", pytest.param("conda13", marks=pytest.mark.download)])
def cuda(request: pytest.FixtureRequest, work: Path, tmp_path: Path, gxx: str) -> tuple[Path, Path]:
    """Return an environment and the root of a toolkit with a real nvcc: the machine's, or in it."""
    if request.param == "conda13":
        prefix: Path = request.getfixturevalue("conda13")
        return prefix, prefix
    root: Path = request.getfixturevalue("toolkit")
    return make_venv(tmp_path / "venv", (), work), root


# --- a lower level ------------------------------------------------------------------------------------------


def test_a_cpp_file_of_flashinfer_is_built_with_what_fix_exports(patient: Patient) -> None:
    assert CRASH in patient.build(CXX)
    assert CRASH in patient.build(CXX, "export CXXFLAGS=-O1 CFLAGS=-O1 CPPFLAGS=-O1"), "nobody reads them"
    assert patient.fixed() == ["FLASHINFER_EXTRA_CFLAGS", "FLASHINFER_EXTRA_CUDAFLAGS"]
    assert CRASH in patient.build(CXX), "an open shell does not know the exports yet"
    assert patient.build(CXX, activation(patient.prefix)) == ""
    assert patient.build(CXX, patient.launch) == ""
    undone(patient.prefix, **patient.variables)
    assert CRASH in patient.build(CXX, activation(patient.prefix))


def test_a_cu_file_of_flashinfer_is_built_with_what_fix_exports(
    cuda: tuple[Path, Path], tmp_path: Path
) -> None:
    patient = patient_at(*cuda, tmp_path)
    assert CRASH in patient.build(NVCC, "export CXXFLAGS=-O1 CFLAGS=-O1"), "nvcc hands its own -O3 on"
    patient.fixed()
    assert patient.build(NVCC, activation(patient.prefix)) == ""
    undone(patient.prefix, **patient.variables)
    assert CRASH in patient.build(NVCC, patient.launch)


def test_an_extension_of_torch_is_built_with_what_fix_exports(
    cuda: tuple[Path, Path], tmp_path: Path
) -> None:
    patient = patient_at(*cuda, tmp_path, flashinfer=False)
    assert CRASH in patient.build(OF_TORCH)
    assert patient.fixed() == ["NVCC_APPEND_FLAGS"]
    assert patient.build(OF_TORCH, patient.launch) == "", "nvcc itself reads the variable"


@pytest.mark.parametrize("advice", ["NVCC_PREPEND_FLAGS=-O1", "NVCC_APPEND_FLAGS='-Xcompiler -O1'"])
def test_a_level_that_comes_before_flashinfers_own_does_not_help(
    work: Path, toolkit: Path, gxx: str, tmp_path: Path, advice: str
) -> None:
    patient = patient_at(make_venv(tmp_path / "venv", (), work), toolkit, tmp_path)
    assert CRASH in patient.build(NVCC, f"export {advice}")


# --- a higher limit -----------------------------------------------------------------------------------------


def test_the_limit_comes_first_and_is_the_users_to_raise(patient: Patient) -> None:
    asked = ("fix", "--deep", NAME, "--no-config", "--format", "json", "--prefix", str(patient.prefix))
    plan = json.loads(program(*asked, before=LOWER, **patient.variables).stdout)
    assert plan["lines"] == []
    assert [(line["fix"], line["safety"]) for line in plan["held"]] == [
        ("stack-limit", "manual"), ("lower-optimisation", "unsafe"),
    ]  # fmt: skip


def test_only_the_hard_limit_counts_and_a_higher_one_lets_the_same_build_pass(patient: Patient) -> None:
    assert CRASH in patient.build(CXX, limit=f"-s {LIMIT_KIB}")
    assert patient.build(CXX, limit=f"-Ss {LIMIT_KIB}") == "", "GCC raises the soft limit by itself"
    assert patient.build(CXX, limit=f"-s {ENOUGH_KIB}") == ""


def test_a_shell_without_the_right_to_cannot_raise_its_own_limit(patient: Patient) -> None:
    setpriv = shutil.which("setpriv")
    if os.geteuid() == 0 and setpriv is None:
        pytest.skip("setpriv is not on PATH")
    without = f"{setpriv} --bounding-set=-sys_resource --inh-caps=-sys_resource " if os.geteuid() == 0 else ""
    said = patient.build(f"{without}bash -c 'ulimit -s unlimited && {CXX}'")
    assert "cannot modify limit" in said
