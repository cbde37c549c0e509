"""The real environments are what they claim to be, so that other tests may lean on them."""

import base64
import csv
import hashlib
import json
import os
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from .conda_prefix import TARGET
from .conftest import _do_without
from .pip_prefix import install, plant_distribution, site_packages

#: Own prototypes, for the runtime headers of CUDA 12 need crt/*.h, which only the 40 MB compiler wheel has.
PROGRAM = 'extern "C" int cudaRuntimeGetVersion(int*); extern "C" int cuInit(unsigned);\n'
PROGRAM += "int use(int* out) { return cudaRuntimeGetVersion(out) + (int)cuInit(0); }\n"

KERNEL = """
#include <cstdio>
__global__ void twice(int* x) { x[threadIdx.x] *= 2; }
int main() {
  int n = 0;
  std::printf("%d", (int)cudaGetDeviceCount(&n));
  twice<<<1, 1>>>(nullptr);
}
"""


def clean_environ(**extra: str) -> dict[str, str]:
    """Return this process's environment without the variables that redirect compilers and loaders."""
    ours = ("LIBRARY_PATH", "LD_LIBRARY_PATH", "CPATH", "CUDA_HOME", "CUDA_PATH", "PYTHONPATH", "PYTHONHOME")
    return {name: value for name, value in os.environ.items() if name not in ours} | extra


def link(gxx: str, prefix: Path, scratch: Path, **extra: str) -> subprocess.CompletedProcess[str]:
    """Link as FlashInfer does against CUDA_HOME=prefix."""
    source = scratch / "x.cc"
    source.write_text(PROGRAM)
    places = (f"-L{prefix}/lib64", f"-L{prefix}/lib64/stubs")
    command = [
        gxx,
        "-fPIC",
        "-shared",
        "-o",
        str(scratch / "x.so"),
        str(source),
        *places,
        "-lcudart",
        "-lcuda",
    ]
    environ = clean_environ(LC_ALL="C", **extra)
    return subprocess.run(command, capture_output=True, text=True, env=environ)


def packages(prefix: Path) -> dict[str, str]:
    """Return the versions that conda-meta records."""
    records = [json.loads(file.read_text()) for file in prefix.glob("conda-meta/*.json")]
    return {record["name"]: record["version"] for record in records}


def python_says(prefix: Path, code: str) -> str:
    command = [str(prefix / "bin" / "python3"), "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=clean_environ(), check=True)
    return done.stdout.strip()


# --- conda --------------------------------------------------------------------------------------------------


def test_a_conda_prefix_has_no_lib64(conda_cudart12: Path) -> None:
    assert not (conda_cudart12 / "lib64").exists()
    assert not list((conda_cudart12 / "include").glob("cuda*"))
    assert (conda_cudart12 / TARGET / "include" / "cuda_runtime_api.h").is_file()


def test_the_libraries_are_relative_links_into_targets(conda_cudart12: Path) -> None:
    library, stub = conda_cudart12 / "lib/libcudart.so", conda_cudart12 / "lib/stubs/libcuda.so"
    assert os.readlink(library) == f"../{TARGET}/lib/libcudart.so"
    assert os.readlink(stub) == f"../../{TARGET}/lib/stubs/libcuda.so"
    assert library.resolve() == conda_cudart12 / TARGET / "lib/libcudart.so.12.8.90"
    assert stub.resolve().read_bytes().startswith(b"\x7fELF")


def test_linking_against_lib64_finds_neither_library(conda_cudart12: Path, gxx: str, tmp_path: Path) -> None:
    done = link(gxx, conda_cudart12, tmp_path)
    assert done.returncode == 1
    assert "cannot find -lcudart" in done.stderr
    assert "cannot find -lcuda:" in done.stderr


def test_library_path_with_the_stubs_lets_it_link(conda_cudart12: Path, gxx: str, tmp_path: Path) -> None:
    lib = conda_cudart12 / "lib"
    done = link(gxx, conda_cudart12, tmp_path, LIBRARY_PATH=f"{lib}:{lib}/stubs")
    assert done.returncode == 0, done.stderr


def test_library_path_without_the_stubs_does_not(conda_cudart12: Path, gxx: str, tmp_path: Path) -> None:
    done = link(gxx, conda_cudart12, tmp_path, LIBRARY_PATH=str(conda_cudart12 / "lib"))
    assert "cannot find -lcudart" not in done.stderr
    assert "cannot find -lcuda:" in done.stderr


def test_conda_meta_describes_every_file_it_owns(conda_cudart12: Path) -> None:
    records = [json.loads(file.read_text()) for file in conda_cudart12.glob("conda-meta/*.json")]
    assert records
    for record in records:
        assert record["fn"] == f"{record['name']}-{record['version']}-{record['build']}.conda"
        assert record["url"].startswith("file://")
        assert record["files"] == [row["_path"] for row in record["paths_data"]["paths"]]
        for row in record["paths_data"]["paths"]:
            data = (conda_cudart12 / row["_path"]).read_bytes()
            assert hashlib.sha256(data).hexdigest() == row["sha256"], row["_path"]


def test_conda_meta_tells_what_the_user_asked_for(conda_cudart12: Path) -> None:
    (dev,) = conda_cudart12.glob("conda-meta/cuda-cudart-dev-12.*.json")
    (runtime,) = conda_cudart12.glob("conda-meta/cuda-cudart-12.*.json")
    assert json.loads(dev.read_text())["requested_specs"] == ["cuda-cudart-dev ==12.8.90"]
    assert not json.loads(runtime.read_text()).get("requested_specs")
    assert dev.stat().st_mode & 0o777 == 0o644


def test_the_history_names_every_package(conda_mixed: Path) -> None:
    lines = (conda_mixed / "conda-meta" / "history").read_text().splitlines()
    assert lines[0].startswith("==> ") and lines[0].endswith(" <==")
    assert len([line for line in lines if line.startswith("+")]) == len(packages(conda_mixed))
    assert lines[-1].startswith("# update specs: ['cuda-nvcc==12.8.61', 'cuda-cudart-dev==12.8.90'")


def test_a_mixed_prefix_records_three_releases_of_cuda(conda_mixed: Path) -> None:
    found = packages(conda_mixed)
    expected = {
        "cuda-nvcc": "12.8.61",
        "cuda-cudart-dev": "12.8.90",
        "cuda-libraries-dev": "12.6.2",
        "cuda-nvrtc-dev": "12.4.127",
        "libcublas-dev": "12.4.5.8",
        "libcusparse-dev": "12.3.1.170",
        "gxx_linux-64": "11.2.0",
    }
    assert expected.items() <= found.items()
    assert "cuda-version" not in found
    version = subprocess.run(
        [conda_mixed / "bin/nvcc", "--version"], capture_output=True, text=True, check=True
    )
    assert "release 12.8, V12.8.61" in version.stdout


def test_a_conda_python_lives_in_its_prefix(conda_cudart12: Path) -> None:
    code = "import sys, os, ssl, ctypes, sqlite3; print(sys.prefix, sys.base_prefix, os.__file__, sep='\\n')"
    prefix, base, stdlib = python_says(conda_cudart12, code).splitlines()
    assert Path(prefix) == Path(base) == conda_cudart12
    assert Path(stdlib).is_relative_to(conda_cudart12)


def test_a_wheel_goes_into_a_conda_prefix(conda_cudart12: Path, work: Path) -> None:
    if Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED").exists():
        _do_without("Debian's Python installs elsewhere, and stands for no conda's")
    install(conda_cudart12, ["nvidia-cuda-runtime-cu12==12.8.90"], work)
    assert (site_packages(conda_cudart12) / "nvidia/cuda_runtime/lib/libcudart.so.12").is_file()


def test_a_prefix_without_python_has_none(conda_prefix_of: Callable[..., Path]) -> None:
    prefix = conda_prefix_of("cudart12")
    assert "python" not in packages(prefix)
    assert packages(prefix)["cuda-version"] == "12.8"
    assert not (prefix / "bin").exists()


@pytest.mark.download
def test_nvcc_13_compiles_and_links_a_kernel(conda13: Path, gxx: str, tmp_path: Path) -> None:
    source, program = tmp_path / "k.cu", tmp_path / "k"
    source.write_text(KERNEL)
    command = [str(conda13 / "bin/nvcc"), "-arch=sm_86", "-ccbin", gxx, "-o", str(program), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, env=clean_environ())
    assert done.returncode == 0, done.stderr
    assert b"sm_86" in program.read_bytes()
    subprocess.run([str(program)], env=clean_environ(), check=True)


@pytest.mark.download
def test_nvcc_13_reads_headers_and_libraries_from_targets(conda13: Path) -> None:
    command = [str(conda13 / "bin/nvcc"), "--dryrun", "-x", "cu", "/dev/null"]
    said = subprocess.run(command, capture_output=True, text=True, env=clean_environ(), check=True).stderr
    assert f"_TARGET_DIR_={TARGET}" in said
    assert f'"-I{conda13}/bin/../{TARGET}/include"' in said
    assert f'"-L{conda13}/bin/../{TARGET}/lib/stubs"' in said


@pytest.mark.download
def test_a_13_prefix_records_one_release_of_cuda(conda13: Path) -> None:
    found = packages(conda13)
    assert found["cuda-version"] == "13.0"
    assert found["cuda-nvcc"] == "13.0.88"
    assert found["cuda-cudart-dev"] == "13.0.96"
    assert not (conda13 / "lib64").exists()


# --- pip ----------------------------------------------------------------------------------------------------

INSTALLED = """
from importlib.metadata import distributions
for each in sorted(distributions(), key=lambda d: d.name):
    print(each.name, each.version, each.read_text("INSTALLER").strip())
import torch
print(torch.__version__)
"""


def test_a_cuda_13_venv_lists_torch_without_its_local_version(pip_cu13: Path) -> None:
    assert python_says(pip_cu13, INSTALLED).splitlines() == [
        "apache-tvm-ffi 0.1.11 pip",
        "nvidia-cuda-runtime 13.0.96 pip",
        "nvidia-nvtx 13.0.85 pip",
        "torch 2.14.1 pip",
        "triton 3.8.0 pip",
        "2.14.1+cu130",
    ]
    assert (site_packages(pip_cu13) / "nvidia/cu13/lib/libcudart.so.13").is_file()


def test_a_cuda_12_venv_lists_torch_with_its_local_version(pip_cu12: Path) -> None:
    assert python_says(pip_cu12, INSTALLED).splitlines() == [
        "apache-tvm-ffi 0.1.2 pip",
        "flashinfer-python 0.5.3 pip",
        "nvidia-cuda-runtime-cu12 12.8.90 pip",
        "torch 2.9.0+cu128 pip",
        "triton 3.5.0 pip",
        "2.9.0+cu128",
    ]
    assert (site_packages(pip_cu12) / "flashinfer/jit/cpp_ext.py").is_file()


@pytest.mark.download
def test_the_newer_flashinfer_goes_with_cuda_13(pip_cu13_flashinfer: Path) -> None:
    assert "flashinfer-python 0.7.2.post1 pip" in python_says(pip_cu13_flashinfer, INSTALLED)


def test_a_copied_venv_is_its_own(pip_cu12: Path) -> None:
    assert python_says(pip_cu12, "import sys; print(sys.prefix)") == str(pip_cu12)
    assert (pip_cu12 / "bin/flashinfer").read_text().splitlines()[0] == f"#!{pip_cu12}/bin/python"
    assert str(pip_cu12) in (pip_cu12 / "bin/activate").read_text()


def test_every_record_matches_the_files(pip_cu12: Path) -> None:
    site = site_packages(pip_cu12)
    for record in site.glob("*.dist-info/RECORD"):
        for path, digest, _ in csv.reader(record.read_text().splitlines()):
            if digest:
                found = hashlib.sha256((site / path).read_bytes()).digest()
                assert digest == "sha256=" + base64.urlsafe_b64encode(found).decode().rstrip("="), path


def test_a_planted_distribution_is_read_like_any_other(pip_cu13: Path) -> None:
    files: dict[str, str | bytes] = {"flash_attn/data.bin": b"\0\1", "flash_attn/__init__.py": ""}
    info = plant_distribution(pip_cu13, "flash-attn", "2.8.3", files, requires=["torch", "einops>=0.7"])
    assert info.name == "flash_attn-2.8.3.dist-info"
    code = "from importlib.metadata import *; print(requires('flash-attn'), len(files('flash-attn')))"
    assert python_says(pip_cu13, code) == "['torch', 'einops>=0.7'] 5"
