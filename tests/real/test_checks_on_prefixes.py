"""Each finding on a real environment is proven by the real command failing, and cleared by its remedy.

The program runs as its user runs it; what it says of the linker and the compiler is tried with them.
"""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .pip_prefix import plant_distribution, plant_torch

OBJECT = (
    'extern "C" int cudaRuntimeGetVersion(int*); int use(int* out) { return cudaRuntimeGetVersion(out); }\n'
)


def clean(**extra: str) -> dict[str, str]:
    """Return a small environment, so that nothing of the outer one redirects a compiler."""
    kept = ("PATH", "HOME", "TMPDIR", "LANG")
    return {name: value for name, value in os.environ.items() if name in kept} | {"LC_ALL": "C"} | extra


def check(prefix: Path, *names: str, **environ: str) -> dict[str, Any]:
    """Return the outcomes of the program, really run on this environment, by check."""
    command = [sys.executable, "-m", "cudadoctor", "check", "--no-config", "--format", "json"]
    command += ["--prefix", str(prefix), *names]
    ran = subprocess.run(command, capture_output=True, text=True, env=clean(**environ), check=False)
    assert ran.stderr == ""
    return {outcome["check"]: outcome for outcome in json.loads(ran.stdout)["outcomes"]}


def link(line: str, scratch: Path, **environ: str) -> str:
    """Run a link line that a finding shows, on a real object, and return what ld complains of."""
    source = scratch / "use.cc"
    source.write_text(OBJECT)
    subprocess.run(["g++", "-fPIC", "-c", "-o", str(scratch / "use.o"), str(source)], check=True)
    command = f"{line} {scratch}/use.o -o {scratch}/use.so"
    ran = subprocess.run(shlex.split(command), capture_output=True, text=True, env=clean(**environ))
    return ran.stderr if ran.returncode else ""


def only(outcome: Any) -> Any:
    (finding,) = outcome["findings"]
    return finding


def apply(finding: Any, environ: dict[str, str]) -> None:
    """Do what the first remedy says: in the shell, or as a variable."""
    remedy = finding["remedies"][0]
    if remedy["fix"] in ("toolkit-links", "toolkit-headers"):
        subprocess.run(["sh", "-c", remedy["summary"]], check=True)
    else:
        environ.update(remedy["values"])


def tree(root: Path) -> dict[str, str]:
    """Return every path below `root` with what it is."""
    return {
        str(path.relative_to(root)): os.readlink(path) if path.is_symlink() else str(path.stat().st_size)
        for path in sorted(root.rglob("*"))
    }


@pytest.fixture
def conda(conda_cudart12: Path) -> Path:
    """Return the real conda prefix with FlashInfer's and torch's metadata planted in it."""
    plant_torch(conda_cudart12, "2.9.0+cu128", "12.8")
    plant_distribution(conda_cudart12, "flashinfer-python", "0.5.3")
    return conda_cudart12


@pytest.mark.parametrize(
    ("name", "library"), [("cudart-link-missing", "cudart"), ("libcuda-link-missing", "cuda")]
)
def test_conda_cannot_link_until_lib64_is_there(
    conda: Path, gxx: str, tmp_path: Path, name: str, library: str
) -> None:
    environ = {"CUDA_HOME": str(conda)}
    finding = only(check(conda, **environ)[name])
    line = finding["evidence"][0]["detail"]
    assert f"cannot find -l{library}" in finding["summary"]
    assert f"cannot find -l{library}" in link(line, tmp_path, **environ)
    before = tree(conda)
    apply(finding, environ)
    after = check(conda, **environ)
    assert after["cudart-link-missing"]["outcome"] == after["libcuda-link-missing"]["outcome"] == "passed"
    assert link(line, tmp_path, **environ) == ""
    moved = conda.with_name("moved")
    conda.rename(moved)
    assert link(line.replace(str(conda), str(moved)), tmp_path) == "", "a relative link survives a move"
    moved.rename(conda)
    (conda / "lib64").unlink()
    assert tree(conda) == before


@pytest.mark.parametrize(
    ("name", "library"), [("cudart-link-missing", "cudart"), ("libcuda-link-missing", "cuda")]
)
def test_what_would_do_instead_of_the_link_does(
    conda: Path, gxx: str, tmp_path: Path, name: str, library: str
) -> None:
    environ = {"CUDA_HOME": str(conda)}
    finding = only(check(conda, **environ)[name])
    line = finding["evidence"][0]["detail"]
    (instead,) = finding["remedies"][0]["instead"]
    assert instead["fix"] == "library-path"
    environ.update(instead["values"])
    assert link(line, tmp_path, **environ) == ""
    assert check(conda, **environ)[name]["outcome"] == "passed"


def test_behind_a_wrapper_that_clears_library_path_only_flags_do(
    conda: Path, gxx: str, tmp_path: Path
) -> None:
    wrapper = tmp_path / "g++-clean"
    wrapper.write_text(f'#!/bin/sh\nunset LIBRARY_PATH\nexec {gxx} "$@"\n')
    wrapper.chmod(0o755)
    environ = {"CUDA_HOME": str(conda), "CXX": str(wrapper)}
    folders = f"{conda}/lib:{conda}/lib/stubs"
    finding = only(check(conda, **environ, LIBRARY_PATH=folders)["libcuda-link-missing"])
    line = finding["evidence"][0]["detail"]
    assert "cannot find -lcuda" in link(line, tmp_path, **environ, LIBRARY_PATH=folders)
    (instead,) = finding["remedies"][0]["instead"]
    assert instead["fix"] == "link-flags"
    environ.update(instead["values"])
    found = check(conda, **environ)
    assert found["cudart-link-missing"]["outcome"] == found["libcuda-link-missing"]["outcome"] == "passed"
    assert link(f"{line} {instead['values']['FLASHINFER_EXTRA_LDFLAGS']}", tmp_path, **environ) == ""


def test_the_folklore_library_path_leaves_libcuda_missing(conda: Path, gxx: str, tmp_path: Path) -> None:
    folklore = f"{conda}/lib:{conda}/lib64:{conda}/targets/x86_64-linux/lib"
    environ = {"CUDA_HOME": str(conda), "LIBRARY_PATH": folklore}
    found = check(conda, **environ)
    assert found["cudart-link-missing"]["outcome"] == "passed"
    finding = only(found["libcuda-link-missing"])
    said = link(finding["evidence"][0]["detail"], tmp_path, **environ)
    assert "cannot find -lcuda:" in said and "cannot find -lcudart" not in said


def test_ld_library_path_has_no_effect_on_the_link(conda: Path, gxx: str, tmp_path: Path) -> None:
    environ = {"CUDA_HOME": str(conda), "LD_LIBRARY_PATH": f"{conda}/lib:{conda}/lib/stubs"}
    finding = only(check(conda, **environ)["cudart-link-missing"])
    assert "the linker does not look there" in json.dumps(finding)
    assert "cannot find -lcudart" in link(finding["evidence"][0]["detail"], tmp_path, **environ)


def test_conda_hides_its_headers_from_gxx(conda: Path, gxx: str, tmp_path: Path) -> None:
    plant_distribution(conda, "apache-tvm-ffi", "0.1.2")
    environ = {"CUDA_HOME": str(conda)}
    finding = next(
        f
        for f in check(conda, **environ)["cuda-headers-missing"]["findings"]
        if "BufferError" in f["summary"]
    )
    source = tmp_path / "include.cc"
    source.write_text("#include <cuda.h>\n")
    command = [gxx, "-fsyntax-only", "-isystem", f"{conda}/include", str(source)]
    assert subprocess.run(command, capture_output=True, env=clean(**environ)).returncode
    apply(finding, environ)
    assert subprocess.run(command, capture_output=True, env=clean(**environ)).returncode == 0
    left = check(conda, **environ)["cuda-headers-missing"]["findings"]
    assert not any("BufferError" in f["summary"] for f in left)


def test_one_link_shows_the_headers_of_a_prefix_without_a_python(
    pip_cu12: Path, conda_prefix_of: Callable[..., Path], gxx: str, tmp_path: Path
) -> None:
    toolkit = conda_prefix_of("cudart12")
    source = tmp_path / "include.cc"
    source.write_text("#include <cuda.h>\n")
    command = [gxx, "-fsyntax-only", "-isystem", f"{toolkit}/include", str(source)]
    assert subprocess.run(command, capture_output=True, env=clean()).returncode
    environ = {"CUDA_HOME": str(toolkit)}
    finding = next(
        f
        for f in check(pip_cu12, **environ)["cuda-headers-missing"]["findings"]
        if "g++ will not find" in f["summary"]
    )
    assert finding["remedies"][0]["fix"] == "toolkit-headers"
    apply(finding, environ)
    assert subprocess.run(command, capture_output=True, env=clean()).returncode == 0
    left = check(pip_cu12, **environ)["cuda-headers-missing"]["findings"]
    assert not any("g++ will not find" in f["summary"] for f in left)


def test_pips_cuda_has_no_link_name(pip_cu13: Path, gxx: str, tmp_path: Path) -> None:
    plant_distribution(pip_cu13, "flashinfer-python", "0.7.2.post1")
    (root,) = pip_cu13.glob("lib/python3.*/site-packages/nvidia/cu13")
    environ = {"CUDA_HOME": str(root)}
    finding = only(check(pip_cu13, **environ)["cudart-link-missing"])
    line = finding["evidence"][0]["detail"]
    assert "libcudart.so.13, which -lcudart does not match" in json.dumps(finding)
    assert "cannot find -lcudart" in link(line, tmp_path, **environ)
    before = tree(pip_cu13)
    apply(finding, environ)
    line = line.replace(str(root), environ["CUDA_HOME"])
    assert "cannot find -lcudart" not in link(line, tmp_path, **environ)
    assert check(pip_cu13, **environ)["cudart-link-missing"]["outcome"] == "passed"
    if environ["CUDA_HOME"] == str(root):
        (root / "lib64/libcudart.so").unlink()
        (root / "lib64").rmdir()
    assert tree(pip_cu13) == before


def test_mixed_conda_packages_are_reported(conda_mixed: Path) -> None:
    found = check(conda_mixed, "conda-cuda-split")["conda-cuda-split"]
    assert "12.4" in json.dumps(found) and found["outcome"] == "failed"


@pytest.mark.download
def test_a_complete_conda_toolkit_is_healthy_but_for_its_layout(
    conda13: Path, gxx: str, tmp_path: Path
) -> None:
    plant_torch(conda13, "2.14.1+cu130", "13.0", listed="2.14.1")
    plant_distribution(conda13, "flashinfer-python", "0.7.2.post1")
    environ = {"CUDA_HOME": str(conda13), "PATH": f"{conda13}/bin:{os.environ['PATH']}"}
    found = check(conda13, **environ)
    for name in ("cuda-home-wrong", "nvcc-missing", "nvcc-headers-mismatch", "conda-cuda-split"):
        assert found[name]["outcome"] == "passed", found[name]
    apply(only(found["cudart-link-missing"]), environ)
    after = check(conda13, **environ)
    assert after["cudart-link-missing"]["outcome"] == after["libcuda-link-missing"]["outcome"] == "passed"


def test_the_machines_own_toolkit_behind_a_script_is_found(pip_cu13: Path, gxx: str, tmp_path: Path) -> None:
    toolkit = next(iter(sorted(Path("/usr/local").glob("cuda-*/bin/nvcc"))), None)
    if toolkit is None:
        pytest.skip("no /usr/local/cuda-*/bin/nvcc on this machine")
    plant_distribution(pip_cu13, "flashinfer-python", "0.7.2.post1")
    folder = tmp_path / "local/bin"
    folder.mkdir(parents=True)
    (folder / "nvcc").write_text(f'#!/bin/sh\nexec {toolkit} "$@"\n')
    (folder / "nvcc").chmod(0o755)
    environ = {"PATH": f"{folder}:/usr/bin:/bin"}
    found = check(pip_cu13, **environ)
    finding = only(found["cuda-home-wrong"])
    assert f"CUDA_HOME={tmp_path}/local:" in finding["summary"]
    assert f"exec {toolkit}" in json.dumps(finding)
    line = only(found["cudart-link-missing"])["evidence"][0]["detail"]
    assert "cannot find -lcudart" in link(line, tmp_path, **environ)
    apply(finding, environ)
    after = check(pip_cu13, **environ)
    assert after["cuda-home-wrong"]["outcome"] == after["cudart-link-missing"]["outcome"] == "passed"
    assert environ["CUDA_HOME"] == str(toolkit.parents[1])


def test_a_plain_venv_without_a_stack_is_healthy(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    found = check(tmp_path / "venv")
    assert {outcome["outcome"] for outcome in found.values()} <= {"passed", "skipped"}
