"""Which CUDA toolkits are within reach in each layout, and which one each consumer selects."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from cudadoctor.facts import Distribution, Environ, Packages, Target, Toolkit, Toolkits, Variable
from cudadoctor.host import Host, Ran, RealHost
from cudadoctor.probes import conda as conda_probe
from cudadoctor.probes import machine as machine_probe
from cudadoctor.probes.toolkits import probe
from cudadoctor.testing import FakeHost, Link

SITE = "/v/lib/python3.12/site-packages"
NOTHING = Packages(())
API = "#define CUDART_VERSION  {}\n"
CONFIG = """
#if __GNUC__ > 13
#error -- unsupported GNU version! gcc versions later than 13 are not supported!
#if (__clang_major__ >= 18) || (__clang_major__ < 3)
"""


def toolkit(root: str, number: int = 12080, lib: str = "lib64") -> dict[str, object]:
    """Return a classic toolkit: everything under one root."""
    return {
        f"{root}/bin/nvcc": "\x7fELF",
        f"{root}/include/cuda_runtime.h": "",
        f"{root}/include/cuda_runtime_api.h": API.format(number),
        f"{root}/include/crt/host_config.h": CONFIG,
        f"{root}/{lib}/libcudart.so": "\x7fELF",
        f"{root}/{lib}/stubs/libcuda.so": "\x7fELF",
    }


def conda(prefix: str, folder: str = "x86_64-linux", version: str = "12.8.93") -> dict[str, object]:
    """Return a conda environment with CUDA as conda-forge lays it out."""
    inside = f"{prefix}/targets/{folder}"
    record = f'{{"name": "cuda-nvcc-tools", "version": "{version}"}}'
    return {
        f"{prefix}/conda-meta/cuda-nvcc-tools-{version}-h1_0.json": record,
        f"{prefix}/bin/nvcc": "\x7fELF",
        f"{inside}/include/cuda_runtime_api.h": API.format(12080),
        f"{inside}/lib/libcudart.so.12": "\x7fELF",
        f"{inside}/lib/stubs/libcuda.so": "\x7fELF",
        f"{prefix}/lib/libcudart.so": Link(f"../targets/{folder}/lib/libcudart.so.12"),
    }


def version(text: str) -> str:
    return f"nvcc: NVIDIA (R) Cuda compiler driver\nCuda compilation tools, release 12.8, V{text}\n"


def look(
    host: Host,
    variables: Mapping[str, str],
    path: Sequence[str],
    packages: Packages = NOTHING,
) -> Toolkits:
    held = {name: Variable(value, "environment") for name, value in variables.items()}
    target = Target("/v", "", "", "3.12.4", "/v", (SITE,), "", "--prefix", True)
    environ = Environ(held, "", tuple(path))
    return probe(host, target, environ, packages, conda_probe.probe(host, target), machine_probe.probe(host))


def seen(
    files: Mapping[str, object], *path: str, arch: str = "x86_64", answer: str = "12.8.93",
    packages: Packages = NOTHING, **variables: str,
) -> Toolkits:  # fmt: skip
    """Look at a machine on which everything under a bin folder runs, and every nvcc tells this version."""
    programs = {
        name: version(answer)
        for name, text in files.items()
        if "/bin/" in name and not isinstance(text, Link)
    }
    host = FakeHost(files, programs=programs, arch=arch)
    return look(host, variables, path, packages)


def only(toolkits: Toolkits) -> Toolkit:
    (found,) = toolkits.toolkits
    return found


# --- layouts ------------------------------------------------------------------------------------------------


def test_no_toolkit_at_all() -> None:
    assert seen({}) == Toolkits((), (), {}, None)


def test_the_classic_toolkit() -> None:
    files = {**toolkit("/usr/local/cuda-12.8"), "/usr/local/cuda": Link("cuda-12.8")}
    found = only(seen(files, "/usr/local/cuda/bin"))
    assert (found.root, found.real, found.layout) == ("/usr/local/cuda", "/usr/local/cuda-12.8", "cuda")
    assert (found.version, found.version_source) == ("12.8.93", "/usr/local/cuda/bin/nvcc --version")
    assert (found.lib, found.stubs) == (("/usr/local/cuda/lib64",), ("/usr/local/cuda/lib64/stubs",))
    assert found.found_by == ("nvcc on PATH", "a usual place")


def test_several_versions_side_by_side() -> None:
    files = {**toolkit("/usr/local/cuda-12.4"), **toolkit("/usr/local/cuda-13.0", 13000)}
    files["/usr/local/cuda"] = Link("/etc/alternatives/cuda")
    files["/etc/alternatives/cuda"] = Link("/usr/local/cuda-13.0")
    files["/usr/local/cuda-notes/x"] = ""
    found = seen(files)
    assert [t.real for t in found.toolkits] == ["/usr/local/cuda-13.0", "/usr/local/cuda-12.4"]
    assert found.toolkits[0].root == "/usr/local/cuda"


def test_version_json_spares_the_question() -> None:
    text = '{"cuda": {"version": "12.8.1"}, "cuda_nvcc": {"name": "NVCC", "version": "12.8.61"}}'
    found = only(seen({**toolkit("/usr/local/cuda"), "/usr/local/cuda/version.json": text}))
    assert (found.version, found.version_source) == ("12.8.61", "/usr/local/cuda/version.json")


@pytest.mark.parametrize("text", ["", "{", "\0", '{"cuda_nvcc": {"version": 3}}'])
def test_a_damaged_version_json_is_passed_over(text: str) -> None:
    found = only(seen({**toolkit("/usr/local/cuda"), "/usr/local/cuda/version.json": text}))
    assert found.version == "12.8.93"


@pytest.mark.parametrize(("arch", "folder"), [("x86_64", "x86_64-linux"), ("aarch64", "sbsa-linux")])
def test_a_conda_environment(arch: str, folder: str) -> None:
    found = only(seen(conda("/v", folder), "/v/bin", arch=arch))
    inside = f"/v/targets/{folder}"
    assert (found.root, found.layout, found.nvcc) == ("/v", "conda", "/v/bin/nvcc")
    assert (found.version, found.version_source) == ("12.8.93", "conda record of cuda-nvcc-tools")
    assert found.include == (f"{inside}/include",)
    assert found.lib == ("/v/lib", f"{inside}/lib")
    assert found.stubs == (f"{inside}/lib/stubs",)


def test_files_for_another_machine_are_not_this_one_s() -> None:
    files = conda("/v", "sbsa-linux")
    found = only(seen(files, arch="x86_64"))
    assert (found.include, found.stubs) == ((), ())
    del files["/v/bin/nvcc"]
    assert seen(files, arch="x86_64").toolkits == ()


def test_cuda_home_may_point_into_targets() -> None:
    root = "/v/targets/x86_64-linux"
    found = seen(conda("/v"), "/v/bin", CUDA_HOME=root)
    inner = found.at(root)
    assert inner is not None and (inner.layout, inner.nvcc) == ("conda-target", "")
    assert (inner.version, inner.version_source) == ("12.8", f"{root}/include/cuda_runtime_api.h")


def test_another_conda_environment_s_toolkit_is_not_told_by_this_one_s_records() -> None:
    files = {**conda("/v", version="12.8.93"), **conda("/opt/conda", version="11.8.0")}
    found = seen(files, "/opt/conda/bin", answer="11.8.89").at("/opt/conda")
    assert found is not None and (found.layout, found.version) == ("conda", "11.8.89")


def test_the_split_wheels_of_cuda_12() -> None:
    files: dict[str, object] = {
        f"{SITE}/nvidia/cuda_runtime/include/cuda_runtime_api.h": API.format(12080),
        f"{SITE}/nvidia/cuda_runtime/lib/libcudart.so.12": "",
        f"{SITE}/nvidia/cuda_nvcc/bin/ptxas": "",
        f"{SITE}/nvidia/cublas/lib/libcublas.so.12": "",
    }
    runtime, compiler = seen(files).toolkits
    assert (runtime.layout, runtime.version, runtime.nvcc) == ("pip-cu12", "12.8", "")
    assert (compiler.layout, compiler.version, compiler.found_by) == ("pip-cu12", "", ("pip",))


def test_the_wheels_of_cuda_13() -> None:
    root = f"{SITE}/nvidia/cu13"
    files = {name: text for name, text in toolkit(root, 13000, "lib").items() if "stubs" not in name}
    packages = Packages((Distribution("nvidia-cuda-nvcc", "13.0.88", SITE),))
    found = only(seen(files, packages=packages))
    assert (found.layout, found.version, found.version_source) == (
        "pip-cu13",
        "13.0.88",
        "distribution nvidia-cuda-nvcc",
    )
    assert (found.lib, found.stubs) == ((f"{root}/lib",), ())


@pytest.mark.parametrize(
    ("arch", "triple"), [("x86_64", "x86_64-linux-gnu"), ("aarch64", "aarch64-linux-gnu")]
)
def test_debian_s_own_packages(arch: str, triple: str) -> None:
    files: dict[str, object] = {
        "/usr/bin/nvcc": '#!/bin/sh\nexec /usr/lib/nvidia-cuda-toolkit/bin/nvcc "$@"\n',
        "/usr/lib/nvidia-cuda-toolkit/bin/nvcc": "\x7fELF",
        "/usr/include/cuda_runtime_api.h": API.format(11080),
        f"/usr/lib/{triple}/libcudart.so": "",
        f"/usr/lib/{triple}/stubs/libcuda.so": "",
    }
    found = seen(files, "/usr/bin", arch=arch, answer="11.8.89")
    by_root = {toolkit.root: toolkit for toolkit in found.toolkits}
    assert set(by_root) == {"/usr", "/usr/lib/nvidia-cuda-toolkit"}
    for each in by_root.values():
        assert (each.layout, each.version, each.include) == ("debian", "11.8.89", ("/usr/include",))
        assert f"/usr/lib/{triple}" in each.lib and f"/usr/lib/{triple}/stubs" in each.stubs
    selection = found.selected("flashinfer")
    assert selection is not None and (selection.root, selection.has_nvcc) == ("/usr", True)
    assert found.at("/usr") is not None


@pytest.mark.parametrize("place", ["/usr/local", "/home/ada", "/usr"])
@pytest.mark.parametrize(
    "wrapper", ['#!/bin/sh\nexec /usr/local/cuda-13.0/bin/nvcc "$@"\n', Link("/usr/local/cuda-13.0/bin/nvcc")]
)
def test_a_wrapper_or_a_link_alone_makes_no_toolkit(place: str, wrapper: object) -> None:
    files = {f"{place}/bin/nvcc": wrapper, **toolkit("/usr/local/cuda-13.0")}
    found = seen(files, f"{place}/bin")
    assert only(found).root == "/usr/local/cuda-13.0"
    selection = found.selected("torch")
    assert selection is not None and (selection.root, selection.exists) == (place, True)
    assert found.at(selection.root) is None


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_the_hpc_sdk(arch: str) -> None:
    base = f"/opt/nvidia/hpc_sdk/Linux_{arch}/24.5"
    files = {**toolkit(f"{base}/cuda/12.4"), f"{base}/compilers/bin/nvcc": Link("../../cuda/12.4/bin/nvcc")}
    found = seen(files, f"{base}/compilers/bin", arch=arch)
    assert (only(found).root, only(found).layout) == (f"{base}/cuda/12.4", "hpc-sdk")
    selection = found.selected("torch")
    assert selection is not None and selection.root == f"{base}/compilers"


def test_a_toolkit_of_environment_modules_is_found_by_its_variables() -> None:
    found = seen(toolkit("/apps/cuda/12.4"), "/apps/cuda/12.4/bin", CUDA_ROOT="/apps/cuda/12.4")
    assert only(found).found_by == ("nvcc on PATH", "CUDA_ROOT")


def test_headers_and_compiler_limits_are_read() -> None:
    found = seen(toolkit("/usr/local/cuda", 12040))
    headers = found.headers["/usr/local/cuda/include"]
    assert (headers.cudart_version, headers.gcc_limit, headers.clang_limit) == ("12.4", 13, 17)
    assert "crt/host_config.h" in headers.headers and "cublasLt.h" not in headers.headers


def test_headers_of_cpath_are_read_and_absent_folders_told() -> None:
    found = seen({"/x/cuda_runtime_api.h": API.format(11080)}, CPATH="/x::/gone", CUDA_HOME="/nowhere")
    assert found.headers["/x"].cudart_version == "11.8"
    assert not found.headers["/gone"].exists and not found.headers["/nowhere/include"].exists


# --- the nvcc on PATH ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "runs"),
    [
        ('#!/bin/sh\nexec /cuda/bin/nvcc "$@"\n', "/cuda/bin/nvcc"),
        ('#!/bin/bash\n# was /old/bin/nvcc\nexec "/cuda/bin/nvcc" -ccbin g++-12 "$@"\n', "/cuda/bin/nvcc"),
        ("#!/bin/sh\nCUDA=/cuda\nexec ${CUDA}/bin/nvcc\n", ""),
        ("#!/bin/sh\nexec ccache /cuda/bin/nvcc $@;\n", "/cuda/bin/nvcc"),
        ("#!/bin/sh\nexec /gone/bin/nvcc\n", ""),
        ("#!/bin/sh\nexec /w/bin/nvcc\n", ""),
        ("#!/bin/sh\ncat /cuda/etc/nvcc.profile\n", ""),
        ("#!/usr/bin/env python3\nimport os\nos.execv('/cuda/bin/nvcc', [])\n", "/cuda/bin/nvcc"),
        ("#!/bin/sh\n", ""),
        (b"#!\xff\xfe\x00" * 2000, ""),
    ],
)
def test_a_wrapper_script_is_read_for_the_nvcc_it_starts(text: str, runs: str) -> None:
    files = {"/w/bin/nvcc": text, "/cuda/etc/nvcc.profile": "", **toolkit("/cuda")}
    nvcc = seen(files, "/w/bin").nvcc_on_path
    assert nvcc is not None and (nvcc.path, nvcc.kind, nvcc.runs) == ("/w/bin/nvcc", "script", runs)
    assert "\n" not in nvcc.evidence


def test_a_binary_a_link_and_a_linked_folder_are_told_apart() -> None:
    files = {**toolkit("/cuda"), "/bin/nvcc": Link("/cuda/bin/nvcc"), "/linked": Link("/cuda")}
    told = [seen(files, path).nvcc_on_path for path in ("/cuda/bin", "/bin", "/linked/bin")]
    assert [(n.kind, n.runs) for n in told if n] == [
        ("binary", ""),
        ("link", "/cuda/bin/nvcc"),
        ("binary", ""),
    ]


@pytest.mark.parametrize("cache", ["/usr/bin/ccache", "/usr/bin/sccache"])
def test_a_compiler_cache_starts_the_next_nvcc(cache: str) -> None:
    files = {
        **toolkit("/cuda"),
        "/usr/lib/ccache/nvcc": Link(cache),
        "/more/nvcc": Link(cache),
        cache: "\x7fELF",
    }
    found = seen(files, "/usr/lib/ccache", "/more", "/cuda/bin")
    nvcc = found.nvcc_on_path
    assert nvcc is not None and (nvcc.kind, nvcc.runs, nvcc.evidence) == (
        "link",
        "/cuda/bin/nvcc",
        f"-> {cache}",
    )
    flashinfer, cmake = found.selected("flashinfer"), found.selected("cmake")
    assert flashinfer is not None and flashinfer.root == "/usr/lib"
    assert cmake is not None and cmake.root == "/cuda"


def test_a_compiler_cache_alone_starts_none() -> None:
    files = {"/usr/lib/ccache/nvcc": Link("/usr/bin/ccache"), "/usr/bin/ccache": "\x7fELF"}
    nvcc = seen(files, "/usr/lib/ccache").nvcc_on_path
    assert nvcc is not None and nvcc.runs == ""


@pytest.mark.parametrize("spelling", ["/cuda/bin/", "/cuda//bin", "/cuda/bin/../bin"])
def test_path_entries_may_be_spelled_oddly(spelling: str) -> None:
    found = seen(toolkit("/cuda"), spelling)
    selection = found.selected("torch")
    assert selection is not None and found.at(selection.root) is not None


@pytest.mark.parametrize(
    "ran",
    [
        Ran(1, "", "error"),
        Ran(0, "", ""),
        Ran(-11, version("12.8.93"), ""),
        Ran(-9, "", "", timed_out=True),
        Ran(127, "", "", problem="Exec format error"),
        Ran(0, "\udcff\x1b[2J" * 1000, ""),
    ],
)
def test_an_nvcc_that_does_not_answer_leaves_the_headers_to_tell(ran: Ran) -> None:
    host = FakeHost(
        toolkit("/usr/local/cuda", 12040), programs={"/usr/local/cuda/bin/nvcc": lambda argv, env: ran}
    )
    found = only(look(host, {}, ()))
    assert (found.version, found.version_source) == ("12.4", "/usr/local/cuda/include/cuda_runtime_api.h")


# --- who selects what ---------------------------------------------------------------------------------------

PLACES = {**toolkit("/one"), **toolkit("/two"), **toolkit("/usr/local/cuda")}


@pytest.mark.parametrize(
    ("variables", "path", "root", "rule"),
    [
        ({"CUDA_HOME": "/one", "CUDA_PATH": "/two"}, ("/two/bin",), "/one", "CUDA_HOME"),
        ({"CUDA_PATH": "/one"}, ("/two/bin",), "/one", "CUDA_PATH"),
        ({"CUDA_HOME": "", "CUDA_PATH": "/one"}, (), "/one", "CUDA_PATH"),
        ({"CUDA_HOME": ""}, ("/two/bin",), "/two", "two folders up"),
        ({"CUDA_PATH": ""}, ("/two/bin",), "", "CUDA_PATH"),
        ({"CUDA_HOME": ":/one"}, (), ":/one", "CUDA_HOME"),
        ({"CUDA_HOME": "/one/"}, (), "/one/", "CUDA_HOME"),
        ({}, ("/two/bin", "/one/bin"), "/two", "two folders up"),
        ({}, (), "/usr/local/cuda", "the default"),
        ({"CUDAToolkit_ROOT": "/one"}, (), "/usr/local/cuda", "the default"),
    ],
)
def test_torch_flashinfer_and_tvm_ffi_share_a_rule(
    variables: dict[str, str], path: tuple[str, ...], root: str, rule: str
) -> None:
    found = look(FakeHost(PLACES, executables=[name for name in PLACES if "/bin/" in name]), variables, path)
    for consumer in ("torch", "flashinfer", "tvm-ffi"):
        selection = found.selected(consumer)
        assert selection is not None and selection.root == root and selection.rule.startswith(rule)
        assert selection.exists is (root in ("/one", "/one/", "/two", "/usr/local/cuda"))
        assert not selection.exists or found.at(root) is not None


def test_nothing_is_selected_where_there_is_nothing() -> None:
    assert seen(toolkit("/elsewhere")).selections == ()


def test_a_relative_nvcc_gives_the_empty_root_that_torch_gets() -> None:
    host = FakeHost({"/home/ada/bin/nvcc": ""}, executables=["/home/ada/bin/nvcc"])
    selection = look(host, {}, ("bin",)).selected("torch")
    assert selection is not None and (selection.root, selection.exists) == ("", False)


@pytest.mark.parametrize(
    "text", ["/usr/local/cuda\x1b[31m", "\udcff", "a\nb", "/x" * 3000, "~", "$CUDA", "/dev/null", "/dev/zero"]
)
def test_cuda_home_may_hold_anything(text: str) -> None:
    selection = look(RealHost({}), {"CUDA_HOME": text, "CPATH": text}, ()).selected("torch")
    assert selection is not None and (selection.root, selection.exists) == (text, False)


# --- CMake, by asking it ------------------------------------------------------------------------------------

PROJECT = """cmake_minimum_required(VERSION 3.20)
project(probe NONE)
find_package(CUDAToolkit)
message(STATUS "selected: ${CUDAToolkit_BIN_DIR}")
"""
NVCC = """#!/bin/sh
case "$*" in
*--version*) echo "Cuda compilation tools, release 12.4, V12.4.131" ;;
*) echo "#\\$ TOP=$(dirname "$0")/.." >&2; exit 1 ;;
esac
"""


@pytest.fixture
def trees(tmp_path: Path) -> Path:
    """Return a folder with the toolkits one and two, a wrapper for one, and links to them."""
    for root in (tmp_path / "one", tmp_path / "two"):
        for folder in ("bin", "include", "lib64"):
            (root / folder).mkdir(parents=True)
        (root / "bin/nvcc").write_text(NVCC)
        (root / "bin/nvcc").chmod(0o755)
        (root / "include/cuda_runtime.h").touch()
        (root / "include/cuda_runtime_api.h").write_text(API.format(12040))
        (root / "lib64/libcudart.so").touch()
    (tmp_path / "wrapper/bin").mkdir(parents=True)
    (tmp_path / "wrapper/bin/nvcc").write_text(f'#!/bin/sh\nexec {tmp_path}/one/bin/nvcc "$@"\n')
    (tmp_path / "wrapper/bin/nvcc").chmod(0o755)
    (tmp_path / "linked").symlink_to("one")
    (tmp_path / "project").mkdir()
    (tmp_path / "project/CMakeLists.txt").write_text(PROJECT)
    return tmp_path


@pytest.mark.parametrize(
    ("variables", "path"),
    [
        ({}, "one"),
        ({}, "wrapper"),
        ({}, "linked"),
        ({"CUDA_HOME": "two"}, "one"),
        ({"CUDA_PATH": "two"}, "one"),
        ({"CUDAToolkit_ROOT": "two", "CUDA_PATH": "one"}, "one"),
        ({"CMAKE_PREFIX_PATH": "two"}, "one"),
        ({"CMAKE_PREFIX_PATH": "gone:two"}, "one"),
        ({"CMAKE_PREFIX_PATH": "one", "CUDAToolkit_ROOT": "two"}, "wrapper"),
        ({"CUDACXX": "two/bin/nvcc"}, "one"),
        ({"CUDA_PATH": "two"}, ""),
    ],
)
def test_cmake_selects_what_we_say(variables: dict[str, str], path: str, trees: Path) -> None:
    if (cmake := shutil.which("cmake")) is None or not (
        make := shutil.which("ninja") or shutil.which("make")
    ):
        pytest.skip("no cmake with a build program on this machine")
    told = subprocess.run([cmake, "--version"], capture_output=True, text=True, check=True).stdout
    if "CUDACXX" in variables and tuple(map(int, re.findall(r"\d+", told)[:2])) < (3, 31):
        pytest.skip("this CMake's FindCUDAToolkit does not read CUDACXX")
    if not path and os.access("/usr/local/bin/nvcc", os.X_OK):
        pytest.skip("this machine has an nvcc in /usr/local/bin, where CMake always looks")
    real = {name: ":".join(f"{trees}/{part}" for part in text.split(":")) for name, text in variables.items()}
    folders = [f"{trees}/{path}/bin"] if path else []
    environ = {**real, "PATH": ":".join([*folders, "/usr/bin", "/bin"])}
    generator = "Ninja" if make.endswith("ninja") else "Unix Makefiles"
    argv = [
        cmake,
        "-G",
        generator,
        f"-DCMAKE_MAKE_PROGRAM={make}",
        "-S",
        f"{trees}/project",
        "-B",
        f"{trees}/build",
    ]
    done = subprocess.run(argv, env=environ, capture_output=True, text=True)
    match = re.search(r"selected: (.*)/bin", done.stdout)
    assert match is not None, done.stderr
    selection = look(RealHost(environ), real, [*folders, "/usr/bin", "/bin"]).selected("cmake")
    assert selection is not None and os.path.realpath(selection.root) == os.path.realpath(match[1])


def test_cmake_s_selection_goes_by_a_name_that_is_known(trees: Path) -> None:
    found = look(RealHost({}), {"CUDA_HOME": f"{trees}/one/", "CUDAToolkit_ROOT": f"{trees}/linked"}, ())
    selection = found.selected("cmake")
    assert selection is not None and found.at(selection.root) is found.at(f"{trees}/one/") is not None


# --- this machine -------------------------------------------------------------------------------------------


def test_what_nvcc_itself_says_is_what_we_say() -> None:
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("no nvcc on this machine")
    path = os.environ["PATH"].split(":")
    found = look(RealHost(), {}, path)
    said = subprocess.run([nvcc, "--dryrun", "-v", "x.cu"], capture_output=True, text=True).stderr
    top = re.search(r"^#\$ TOP=(.*)$", said, re.MULTILINE)
    if top is None:
        pytest.skip("this nvcc does not say where it lives")
    selection = found.selected("cmake")
    assert selection is not None and os.path.realpath(selection.root) == os.path.realpath(top[1])
    told = subprocess.run([nvcc, "--version"], capture_output=True, text=True).stdout
    toolkit = found.at(selection.root)
    assert toolkit is not None and f"V{toolkit.version}" in told


@pytest.mark.stack
@pytest.mark.parametrize(
    "variables", [{}, {"CUDA_HOME": "/x"}, {"CUDA_PATH": "/y"}, {"CUDA_HOME": ""}, {"CUDA_PATH": ""}]
)
def test_torch_and_flashinfer_select_what_we_say(variables: dict[str, str]) -> None:
    if not (prefix := os.environ.get("CUDADOCTOR_STACK")):
        pytest.skip("CUDADOCTOR_STACK names no environment")
    path = [f"{prefix}/bin", *os.environ["PATH"].split(":")]
    code = "from torch.utils.cpp_extension import CUDA_HOME as a;"
    code += "from flashinfer.jit.cpp_ext import get_cuda_path as b"
    environ = {"HOME": os.environ["HOME"], "PATH": ":".join(path), **variables}
    argv = [f"{prefix}/bin/python", "-c", f"{code}; print('|', a); print('|', b())"]
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, check=True)
    theirs = re.findall(r"^\| (.*)$", done.stdout, re.MULTILINE)
    found = look(RealHost(environ), variables, path)
    assert theirs == [s.root for name in ("torch", "flashinfer") if (s := found.selected(name))]
