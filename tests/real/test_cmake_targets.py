"""The targets that we say CMake will not define are those that the real CMake does not define."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cudadoctor.engine import collect, needed
from cudadoctor.facts import Facts
from cudadoctor.host import RealHost
from cudadoctor.outcomes import Outcome
from cudadoctor.probes.target import Request
from cudadoctor.testing import judge, named

from .conda_prefix import TARGET

NAME = "cmake-cuda-target-missing"
TARGETS = ("cudart", "cublas", "cublasLt", "cufft", "curand", "cusolver", "cusparse", "nvrtc")
#: What conda_mixed records a development package of.
RECORDED = {"cudart", "cublas", "cublasLt", "cusparse", "nvrtc"}
#: What a build needs that is prepared by a variable.
USUAL = {"cudart", "cublas", "cublasLt", "cusparse"}
SYSTEM_CUDA = Path("/usr/local/cuda-13.0")

PROJECT = """\
cmake_minimum_required(VERSION 3.20)
project(probe NONE)
find_package(CUDAToolkit)
message(STATUS "toolkit: ${CUDAToolkit_FOUND} ${CUDAToolkit_TARGET_DIR}")
foreach(name %s)
  if(TARGET CUDA::${name})
    message(STATUS "target: ${name}")
  endif()
endforeach()
"""

#: What conda-forge's nvcc answers to `-v`, for its nvcc.profile moves TOP under targets/. CMake 3.25
#: reads TOP alone, 4.4 reads the folders too.
TELLS = """\
top="$(cd "$(dirname "$0")" && pwd)/../%s"
case " $* " in *" -v "*) cat >&2 <<EOF; exit 1 ;; esac
#$ TOP=$top
#$ INCLUDES="-I$top/include"
#$ SYSTEM_INCLUDES="-isystem" "$top/include/cccl"
#$ LIBRARIES=  "-L$top/lib/stubs" "-L$top/lib"
EOF
"""


@pytest.fixture
def cmake() -> str:
    path = shutil.which("cmake")
    if path is None:
        if os.environ.get("CUDADOCTOR_REQUIRE_REAL") == "1":
            pytest.fail("CUDADOCTOR_REQUIRE_REAL=1, but cmake is not on PATH", pytrace=False)
        pytest.skip("cmake is not on PATH")
    return path


@pytest.fixture
def mixed(conda_mixed: Path) -> Path:
    """Return the mixed prefix; its nvcc, which stands in, tells where its toolkit is as the real one does."""
    nvcc = conda_mixed / "bin/nvcc"
    shebang, _, rest = nvcc.read_text().partition("\n")
    nvcc.unlink()
    nvcc.write_text(f"{shebang}\n{TELLS % TARGET}{rest}")
    nvcc.chmod(0o755)
    return conda_mixed


def variables(root: Path, **extra: str) -> dict[str, str]:
    """Return a small environment in which `root` is active and its nvcc is the first."""
    path = f"{root}/bin:{os.environ.get('PATH', '')}"
    return {"PATH": path, "HOME": os.environ.get("HOME", "/root"), "CONDA_PREFIX": str(root), **extra}


def cmake_says(cmake: str, environ: dict[str, str], scratch: Path) -> tuple[bool, set[str]]:
    """Return whether the real CMake finds a toolkit, and which of the targets it defines."""
    (scratch / "CMakeLists.txt").write_text(PROJECT % " ".join(TARGETS))
    command = [cmake, "-S", str(scratch), "-B", str(scratch / "build")]
    ran = subprocess.run(command, capture_output=True, text=True, env=environ)
    assert ran.returncode == 0, ran.stderr
    found = re.search(r"toolkit: (\S+)", ran.stdout)
    assert found is not None, ran.stdout
    return found[1] == "TRUE", set(re.findall(r"target: (\w+)", ran.stdout))


def we_say(prefix: Path, environ: dict[str, str]) -> Outcome:
    facts: Facts = collect(RealHost(environ), needed([named(NAME)]), Request(prefix=str(prefix)))
    return judge(NAME, facts)


def predicted(outcome: Outcome) -> set[str]:
    """Return the targets that the finding says will be missing."""
    assert outcome.findings, outcome
    return set(re.findall(r"CUDA::(\w+)", outcome.findings[0].summary))


def test_the_recorded_packages_without_files_are_missing_for_cmake(
    mixed: Path, cmake: str, tmp_path: Path
) -> None:
    environ = variables(mixed)
    found, targets = cmake_says(cmake, environ, tmp_path)
    assert found and "cudart" in targets
    missing = predicted(we_say(mixed, environ))
    assert missing == RECORDED - targets == {"cublas", "cublasLt", "cusparse", "nvrtc"}


def make_library(prefix: Path, name: str) -> None:
    shutil.copy(prefix / TARGET / "lib/libcudart.so.12", prefix / name)


def in_targets(prefix: Path) -> None:
    for name in ("cublas", "cublasLt"):
        make_library(prefix, f"{TARGET}/lib/lib{name}.so")


def by_soname_alone(prefix: Path) -> None:
    for name in ("cublas", "cusparse"):
        make_library(prefix, f"{TARGET}/lib/lib{name}.so.12")


def as_dangling_link(prefix: Path) -> None:
    (prefix / TARGET / "lib/libcublas.so").symlink_to("libcublas.so.12")
    make_library(prefix, f"{TARGET}/lib/libcublasLt.so")


def as_archive(prefix: Path) -> None:
    (prefix / TARGET / "lib/libcublas.a").write_bytes(b"!<arch>\n")
    (prefix / TARGET / "lib/libnvrtc.so").write_bytes(b"")


def as_stub(prefix: Path) -> None:
    make_library(prefix, f"{TARGET}/lib/stubs/libcusparse.so")


def as_folder(prefix: Path) -> None:
    (prefix / TARGET / "lib/libcusparse.so").mkdir()


def in_lib64(prefix: Path) -> None:
    (prefix / TARGET / "lib64").mkdir()
    make_library(prefix, f"{TARGET}/lib64/libcublas.so")


@pytest.mark.parametrize(
    "plant", [in_targets, by_soname_alone, as_dangling_link, as_archive, as_stub, as_folder, in_lib64]
)
def test_a_library_counts_for_us_where_it_counts_for_cmake(
    mixed: Path, cmake: str, tmp_path: Path, plant: Callable[[Path], None]
) -> None:
    plant(mixed)
    environ = variables(mixed)
    found, targets = cmake_says(cmake, environ, tmp_path)
    assert found
    assert predicted(we_say(mixed, environ)) == RECORDED - targets


def test_all_that_was_recorded_is_there(mixed: Path, cmake: str, tmp_path: Path) -> None:
    for name in RECORDED - {"cudart"}:
        make_library(mixed, f"{TARGET}/lib/lib{name}.so")
    environ = variables(mixed)
    assert cmake_says(cmake, environ, tmp_path)[1] >= RECORDED
    assert not we_say(mixed, environ).findings


def test_without_libcudart_neither_finds_a_toolkit(mixed: Path, cmake: str, tmp_path: Path) -> None:
    (mixed / TARGET / "lib/libcudart.so").unlink()
    (mixed / "lib/libcudart.so").unlink()
    environ = variables(mixed)
    assert not cmake_says(cmake, environ, tmp_path)[0]
    assert "no libcudart.so" in we_say(mixed, environ).findings[0].summary


def test_without_its_header_the_toolkit_is_no_use(mixed: Path, cmake: str, tmp_path: Path) -> None:
    """CMake 3.25 finds no toolkit; 4.4 believes nvcc, and the build fails at the header."""
    (mixed / TARGET / "include/cuda_runtime.h").unlink()
    environ = variables(mixed)
    said = subprocess.run([cmake, "--version"], capture_output=True, text=True, check=True).stdout
    old = re.search(r"version 3\.(\d|1\d|2[0-5])\.", said) is not None
    assert not (old and cmake_says(cmake, environ, tmp_path)[0])
    assert "no include/cuda_runtime.h" in we_say(mixed, environ).findings[0].summary


@pytest.mark.download
def test_a_whole_conda_toolkit_has_the_runtime_for_both(conda13: Path, cmake: str, tmp_path: Path) -> None:
    environ = variables(conda13, CMAKE_ARGS="-DGGML_CUDA=on")
    found, targets = cmake_says(cmake, environ, tmp_path)
    assert found
    assert predicted(we_say(conda13, environ)) == USUAL - targets


def test_a_toolkit_of_the_system_lacks_the_same_for_both(mixed: Path, cmake: str, tmp_path: Path) -> None:
    if not (SYSTEM_CUDA / "bin/nvcc").exists():
        pytest.skip(f"{SYSTEM_CUDA} is not installed here")
    environ = {**variables(SYSTEM_CUDA, CUDAToolkit_ROOT=str(SYSTEM_CUDA)), "CONDA_PREFIX": str(mixed)}
    found, targets = cmake_says(cmake, environ, tmp_path)
    assert found
    outcome = we_say(mixed, environ)
    assert (predicted(outcome) if outcome.findings else set()) == USUAL - targets
