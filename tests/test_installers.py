"""What an installer is asked to do, and what would bring it back: exact commands, on machines in memory."""

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from cudadoctor.actions import Install, Version
from cudadoctor.facts import (
    BuildTool,
    BuildTools,
    Conda,
    CondaRecord,
    Distribution,
    Environ,
    Facts,
    FlashInfer,
    HeaderDirectory,
    Libraries,
    LibraryFile,
    LinkDirectory,
    Machine,
    Packages,
    Target,
    Toolkit,
    Toolkits,
)
from cudadoctor.installers.back import undo_argvs
from cudadoctor.installers.choice import Refused, joined, prepare
from cudadoctor.installers.inventory import OF_CONDA, changed, freeze
from cudadoctor.installers.prediction import predicted
from cudadoctor.probes import conda, packages
from cudadoctor.testing import FakeHost

NINJA = Install("pip", ("ninja",))
CUDART = Install("conda", ("cuda-cudart-dev", "cuda-version=12.8"))
PIP = ("install", "--no-input", "--disable-pip-version-check")


def target(prefix: str = "/v", kind: str = "venv", **more: Any) -> Target:
    fields: dict[str, Any] = {
        "prefix": prefix,
        "kind": kind,
        "python": f"{prefix}/bin/python3",
        "version": "3.11.2",
        "base_prefix": "/usr" if kind in ("venv", "virtualenv", "uv") else prefix,
        "site_packages": (f"{prefix}/lib/python3.11/site-packages",),
        "include": f"{prefix}/include/python3.11",
        "chosen_by": "--prefix",
        "active": True,
    }
    return Target(**{**fields, **more})


def dist(name: str, version: str, folder: str = "/v/lib/python3.11/site-packages") -> dict[str, object]:
    info = f"{folder}/{name.replace('-', '_')}-{version}.dist-info"
    return {f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\n"}


def record(name: str, version: str, build: str = "h1_0", **more: object) -> dict[str, object]:
    body = {
        "name": name,
        "version": version,
        "build": build,
        "channel": "https://mirror.example/conda-forge/linux-64",
        **more,
    }
    return {f"/c/conda-meta/{name}-{version}-{build}.json": json.dumps(body)}


def planned(
    action: Install, where: Target, *trees: Mapping[str, object], **options: Any
) -> Install | Refused:
    """Return what `prepare` makes of a machine with these files, looked at by the probes themselves."""
    files = {path: content for tree in trees for path, content in tree.items()}
    host = FakeHost(files, **options)
    return prepare(action, where, packages.probe(host, where), conda.probe(host, where), host)


def step(found: Install | Refused) -> Install:
    assert isinstance(found, Install), found
    return found


def refused(found: Install | Refused) -> Refused:
    assert isinstance(found, Refused), found
    return found


# --- pip and uv ---------------------------------------------------------------------------------------------


def test_pip_installs_into_the_environment_that_it_lives_in() -> None:
    found = step(planned(NINJA, target(), dist("pip", "24.0"), dist("torch", "2.9.0+cu128")))
    assert found.argv == ("/v/bin/python3", "-m", "pip", *PIP, "ninja")
    assert (found.tool, found.packages) == ("pip", ("ninja",))
    assert found.before == (Version("pip", "24.0"), Version("torch", "2.9.0+cu128"))


def test_uv_installs_into_what_uv_made() -> None:
    for uv in ("/usr/bin/uv", "/v/bin/uv"):
        found = step(planned(NINJA, target(kind="uv"), dist("pip", "24.0"), executables=[uv]))
        assert found.argv == (uv, "pip", "install", "--python", "/v/bin/python3", "ninja")
        assert found.tool == "uv"


def test_pip_installs_into_what_uv_made_where_there_is_no_uv() -> None:
    found = step(planned(NINJA, target(kind="uv"), dist("pip", "24.0")))
    assert found.argv[:3] == ("/v/bin/python3", "-m", "pip")


def test_pip_is_taken_although_uv_is_there_where_pip_made_the_environment() -> None:
    found = step(planned(NINJA, target(), dist("pip", "24.0"), executables=["/usr/bin/uv"]))
    assert found.tool == "pip"


def test_uv_helps_out_where_an_environment_has_no_pip() -> None:
    assert step(planned(NINJA, target(), executables=["/usr/bin/uv"])).tool == "uv"


@pytest.mark.parametrize(
    ("kind", "says", "show"),
    [
        ("venv", "no pip", "/v/bin/python3 -m ensurepip --upgrade && /v/bin/python3 -m pip install ninja"),
        ("uv", "uv made /v", "uv pip install --python /v/bin/python3 ninja"),
        ("conda", "no pip", "conda install -p /v pip && /v/bin/python3 -m pip install ninja"),
    ],
)
def test_an_environment_without_any_installer_is_refused(kind: str, says: str, show: str) -> None:
    found = refused(planned(NINJA, target(kind=kind)))
    assert says in found.reason and found.show == show


def test_a_pip_that_only_pythonpath_brings_in_is_none() -> None:
    where = target(site_packages=("/mine", "/v/lib/python3.11/site-packages"))
    trees = (dist("pip", "24.0", "/mine"), dist("numpy", "2.0", "/mine"), dist("six", "1.0"))
    found = planned(NINJA, where, *trees, environ={"PYTHONPATH": "/mine"}, executables=["/usr/bin/uv"])
    assert (step(found).tool, step(found).before) == ("uv", (Version("six", "1.0"),))


def test_pip_packages_of_a_conda_environment_are_pip_s_even_where_uv_is() -> None:
    where = target("/c", "conda")
    pip = dist("pip", "24.0", "/c/lib/python3.11/site-packages")
    found = step(planned(NINJA, where, pip, executables=["/usr/bin/uv"]))
    assert found.argv == ("/c/bin/python3", "-m", "pip", *PIP, "ninja")


@pytest.mark.parametrize("lib", ["lib", "lib64"])
def test_a_python_that_the_system_manages_is_refused(lib: str) -> None:
    where = target("/usr", "system", include="/usr/include/python3.11")
    marker = {f"/usr/{lib}/python3.11/EXTERNALLY-MANAGED": "[externally-managed]\n"}
    found = refused(planned(NINJA, where, dist("pip", "23.0", "/usr/lib/python3/dist-packages"), marker))
    assert "EXTERNALLY-MANAGED" in found.reason
    assert found.show == "/usr/bin/python3 -m venv ~/cuda && ~/cuda/bin/python -m pip install ninja"
    assert "break-system-packages" not in found.show


def test_a_virtual_environment_of_a_managed_python_is_its_user_s_own() -> None:
    marker = {"/usr/lib/python3.11/EXTERNALLY-MANAGED": "[externally-managed]\n"}
    assert step(planned(NINJA, target(include="/usr/include/python3.11"), dist("pip", "24.0"), marker))


def test_an_environment_whose_python_is_gone_is_refused() -> None:
    assert "no Python" in refused(planned(NINJA, target(python=""))).reason


# --- owned by a project -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lock", "tool", "sync", "add"),
    [
        ("uv.lock", "pip", "uv sync", "uv add"),
        ("poetry.lock", "pip", "poetry sync", "poetry add"),
        ("pdm.lock", "pip", "pdm sync --clean", "pdm add"),
        ("Pipfile.lock", "pip", "pipenv clean", "pipenv install"),
        ("pixi.lock", "conda", "pixi install", "pixi add"),
        ("pixi.lock", "pip", "pixi install", "pixi add --pypi"),
    ],
)
def test_what_a_lock_file_owns_is_changed_in_the_project(lock: str, tool: str, sync: str, add: str) -> None:
    where = target("/my proj/.venv", "pixi" if lock == "pixi.lock" else "venv", lock_file=f"/my proj/{lock}")
    found = refused(planned(Install(tool, ("ninja>=1.11",)), where, executables=["/usr/bin/conda"]))
    assert f"/my proj/{lock}" in found.reason and f"the next `{sync}` would revert it" in found.reason
    assert found.show == f"cd '/my proj' && {add} 'ninja>=1.11'"


def test_an_environment_that_pixi_made_for_everyone_is_pixi_s_too() -> None:
    where = target("/home/ada/.pixi/envs/tools", "pixi")
    found = refused(planned(CUDART, where, executables=["/usr/bin/conda"]))
    assert found.show == "pixi global add --environment tools cuda-cudart-dev cuda-version=12.8"


# --- conda --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "executables", "client"),
    [
        ({}, ["/usr/bin/conda", "/usr/bin/mamba"], "/usr/bin/conda"),
        ({}, ["/usr/bin/micromamba", "/usr/bin/mamba"], "/usr/bin/mamba"),
        ({}, ["/usr/bin/micromamba"], "/usr/bin/micromamba"),
        ({"CONDA_EXE": "/m/bin/conda"}, ["/m/bin/conda", "/usr/bin/mamba"], "/m/bin/conda"),
        ({"CONDA_EXE": "/gone/conda"}, ["/usr/bin/mamba"], "/usr/bin/mamba"),
        ({"MAMBA_EXE": "/m/micromamba"}, ["/m/micromamba", "/usr/bin/conda"], "/m/micromamba"),
    ],
)
def test_conda_packages_are_installed_by_the_client_in_use(
    environ: Mapping[str, str], executables: list[str], client: str
) -> None:
    found = step(planned(CUDART, target("/c", "conda"), environ=environ, executables=executables))
    assert found.argv == (
        client, "install", "-p", "/c", "-c", "conda-forge", "-y", "cuda-cudart-dev", "cuda-version=12.8",
    )  # fmt: skip
    assert found.tool == "conda"


def test_the_conda_of_the_base_that_an_environment_is_under_will_do() -> None:
    found = step(planned(CUDART, target("/opt/m/envs/x", "conda"), executables=["/opt/m/bin/conda"]))
    assert found.argv[0] == "/opt/m/bin/conda"


def test_planning_needs_no_conda_client_but_installing_does() -> None:
    found = refused(planned(CUDART, target("/c", "conda")))
    assert found.show == "conda install -p /c -c conda-forge -y cuda-cudart-dev cuda-version=12.8"


def test_all_conda_packages_are_written_down_with_their_builds() -> None:
    trees = (
        record("numpy", "2.0", "py311_0", files=[
            "lib/python3.11/site-packages/numpy-2.0.dist-info/METADATA", "lib/x",
        ]),
        record("cuda-cudart", "12.8.90", channel="conda-forge"),
        {"/c/conda-meta/broken-1.0-h7_0.json": "{", "/c/conda-meta/history": ""},
        record("secret", "1", channel="https://mirror.example/t/tk-123/mine/linux-64"),
        dist("numpy", "2.0", "/c/lib/python3.11/site-packages"),
        dist("ninja", "1.11", "/c/lib/python3.11/site-packages"),
    )  # fmt: skip
    found = step(planned(CUDART, target("/c", "conda"), *trees, executables=["/usr/bin/conda"]))
    assert set(found.before) == {
        Version("numpy", "2.0", "py311_0", "https://mirror.example/conda-forge"),
        Version("cuda-cudart", "12.8.90", "h1_0", "conda-forge"),
        Version("broken", "1.0", "h7_0"),
        Version("secret", "1", "h1_0"),
        Version("numpy", "2.0", source=OF_CONDA),
        Version("ninja", "1.11"),
    }


def test_cuda_packages_come_from_the_channel_that_the_others_came_from() -> None:
    nvidia = "https://mirror.example/nvidia/linux-64"
    trees = (record("cuda-nvcc", "12.4", channel=nvidia), record("cuda-cudart", "12.4", channel=nvidia))
    channels = ("-c", "https://mirror.example/nvidia", "-c", "conda-forge")
    client = {"executables": ["/usr/bin/conda"]}
    where = target("/c", "conda")
    assert step(planned(CUDART, where, *trees, **client)).argv[4:8] == channels
    assert step(planned(Install("conda", ("ninja",)), where, *trees, **client)).argv[4:6] == channels[2:]
    same = (record("cuda-nvcc", "12.4"), record("cuda-cudart", "12.4"))
    assert step(planned(CUDART, where, *same, **client)).argv[4:6] == channels[2:]


def test_a_frozen_conda_environment_is_refused() -> None:
    frozen = {"/c/conda-meta/frozen": '{"message": "hands off"}'}
    found = refused(planned(CUDART, target("/c", "conda"), frozen, executables=["/usr/bin/conda"]))
    assert "/c/conda-meta/frozen" in found.reason and found.show.startswith("conda create -n ")


def test_pip_keeps_off_a_conda_base_that_says_so() -> None:
    marker = {"/c/lib/python3.11/EXTERNALLY-MANAGED": ""}
    pip = dist("pip", "24.0", "/c/lib/python3.11/site-packages")
    assert refused(planned(NINJA, target("/c", "conda"), pip, marker))


def test_conda_packages_are_for_conda_environments() -> None:
    assert "no conda environment" in refused(planned(CUDART, target())).reason


# --- wishes of several --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "installed"),
    [
        (["cuda-cudart-dev", "ninja", "cuda-cudart-dev=12.8"], ("cuda-cudart-dev=12.8", "ninja")),
        (["cuda-cudart-dev=12.8", "cuda-cudart-dev"], ("cuda-cudart-dev=12.8",)),
        (["conda-forge::cuda-nvcc", "cuda-nvcc=12.8.61=h1_0"], ("cuda-nvcc=12.8.61=h1_0",)),
        (["Nvidia_NVTX", "nvidia-nvtx==13.0.85"], ("nvidia-nvtx==13.0.85",)),
        (["ninja", "ninja>=1.11"], ("ninja>=1.11",)),
        (["ninja>=1.11", "ninja==1.13"], ("ninja==1.13",)),
        (["ninja==1.11", "ninja==1.13"], ("ninja==1.11",)),
        (["libcublas", "libcublas-dev"], ("libcublas", "libcublas-dev")),
        ([], ()),
    ],
)
def test_a_package_that_two_ask_for_is_named_once_as_the_stricter_wants_it(
    asked: list[str], installed: tuple[str, ...]
) -> None:
    assert joined(asked) == installed


def test_planning_loads_nothing_that_only_installing_needs() -> None:
    code = (
        "import sys\n"
        "before = set(sys.modules)\n"
        "import cudadoctor.installers.back, cudadoctor.installers.choice\n"
        "print(*set(sys.modules) - before)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.split())
    assert "cudadoctor.installers.inventory" in loaded
    assert "cudadoctor.installers.running" not in loaded


# --- what is installed --------------------------------------------------------------------------------------


def test_where_a_distribution_came_from_is_written_down() -> None:
    site = "/v/lib/python3.11/site-packages"
    direct = {
        "plain": {"url": "https://example.org/plain-1.0-py3-none-any.whl", "archive_info": {}},
        "work": {"url": "file:///src/my%20work", "dir_info": {"editable": True}},
        "folder": {"url": "file:///src/folder", "dir_info": {}},
        "forked": {
            "url": "https://example.org/forked.git",
            "vcs_info": {"vcs": "git", "commit_id": "abc123", "requested_revision": "main"},
            "subdirectory": "python",
        },
    }
    files: dict[str, object] = {}
    for name, body in direct.items():
        files |= dist(name, "1.0") | {f"{site}/{name}-1.0.dist-info/direct_url.json": json.dumps(body)}
    files |= dist("index-ed", "2.0") | {f"{site}/index_ed-2.0.dist-info/direct_url.json": "not json"}
    files |= {f"{site}/~orch-2.0.dist-info/METADATA": "", f"{site}/old.egg-link": "/src/old\n.\n"}
    files |= {"/src/old/old.egg-info/PKG-INFO": "Name: old\nVersion: 0.1\n\n"}
    assert set(freeze(target(), FakeHost(files))) == {
        Version("plain", "1.0", source="https://example.org/plain-1.0-py3-none-any.whl"),
        Version("work", "1.0", source="/src/my work"),
        Version("folder", "1.0", source="file:///src/folder"),
        Version("forked", "1.0", source="git+https://example.org/forked.git@abc123#subdirectory=python"),
        Version("index-ed", "2.0"),
        Version("old", "0.1", source="/src/old"),
    }


def test_a_virtual_environment_s_own_distributions_are_written_down_and_no_others() -> None:
    where = target(site_packages=("/v/lib/python3.11/site-packages", "/usr/lib/python3/dist-packages"))
    trees = {**dist("six", "1.0"), **dist("numpy", "1.0", "/usr/lib/python3/dist-packages")}
    assert freeze(where, FakeHost(trees)) == (Version("six", "1.0"),)
    of_all = freeze(target("/usr", "system", site_packages=where.site_packages), FakeHost(trees))
    assert {version.name for version in of_all} == {"six", "numpy"}


def test_what_changed_is_told_once() -> None:
    before = (
        Version("liba", "1", "h0"),
        Version("libb", "1", "h0"),
        Version("numpy", "1", "h0"),
        Version("numpy", "1", source=OF_CONDA),
        Version("same", "1"),
    )
    now = (
        Version("liba", "1", "h1"),
        Version("numpy", "2", "h0"),
        Version("numpy", "2", source=OF_CONDA),
        Version("same", "1"),
        Version("six", "3", "h0"),
        Version("six", "3", source=OF_CONDA),
    )
    added, removed, altered = changed(before, now)
    assert added == (Version("six", "3", "h0"),)
    assert removed == (Version("libb", "1", "h0"),)
    assert [(was.name, was.version, is_.version) for was, is_ in altered] == [
        ("liba", "1", "1"),
        ("numpy", "1", "2"),
    ]


# --- the way back -------------------------------------------------------------------------------------------

BEFORE = (
    Version("lib", "1.0"),
    Version("gone", "3.0+local"),
    Version("work", "0.1", source="/src/work"),
    Version("wheel", "0.2", source="file:///dl/wheel-0.2-py3-none-any.whl"),
    Version("same", "1.0"),
)
NOW = (
    Version("lib", "2.0"),
    Version("work", "0.1"),
    Version("wheel", "0.3"),
    Version("same", "1.0"),
    Version("new", "1.0"),
    Version("other", "1.0"),
)
BACK = (
    "--no-deps",
    "gone==3.0+local",
    "lib==1.0",
    "-e",
    "/src/work",
    "wheel @ file:///dl/wheel-0.2-py3-none-any.whl",
)


def test_pip_takes_away_what_it_added_and_brings_back_what_it_replaced() -> None:
    done = Install("pip", ("new",), ("/v/bin/python", "-m", "pip", *PIP, "new"), BEFORE)
    quiet = ("--no-input", "--disable-pip-version-check")
    assert undo_argvs(done, NOW) == (
        ("/v/bin/python", "-m", "pip", "uninstall", *quiet, "-y", "new", "other"),
        ("/v/bin/python", "-m", "pip", "install", *quiet, "--force-reinstall", *BACK),
    )


def test_uv_takes_away_what_it_added_and_brings_back_what_it_replaced() -> None:
    argv = ("/usr/bin/uv", "pip", "install", "--python", "/v/bin/python", "new")
    assert undo_argvs(Install("uv", ("new",), argv, BEFORE), NOW) == (
        ("/usr/bin/uv", "pip", "uninstall", "--python", "/v/bin/python", "new", "other"),
        ("/usr/bin/uv", "pip", "install", "--python", "/v/bin/python", "--reinstall", *BACK),
    )


@pytest.mark.parametrize("client", ["/m/conda", "/m/mamba", "/m/micromamba"])
def test_conda_takes_away_what_it_added_and_brings_back_what_it_replaced(client: str) -> None:
    before = (
        Version("liba", "1.0", "h0_0", "conda-forge"),
        Version("libb", "1.0", "h0_0", "https://mirror.example/nvidia"),
        Version("libc", "1.0", "h0_0"),
        Version("numpy", "1.0", "h0_0"),
        Version("six", "1.0"),
    )
    now = (
        Version("liba", "1.0", "h1_0", "conda-forge"),
        Version("libb", "2.0", "h0_0", "conda-forge"),
        Version("numpy", "1.0", "h0_0"),
        Version("new", "1.0", "h0_0"),
        Version("new", "1.0", source=OF_CONDA),
        Version("six", "2.0"),
    )
    done = Install("conda", ("new",), (client, "install", "-p", "/c", "-c", "x", "-y", "new"), before)
    assert undo_argvs(done, now) == (
        (client, "remove", "-p", "/c", "--force", "-y", "new"),
        (
            client, "install", "-p", "/c", "--no-deps", "-y",
            "libc=1.0=h0_0", "conda-forge::liba=1.0=h0_0", "https://mirror.example/nvidia::libb=1.0=h0_0",
        ),
    )  # fmt: skip


def test_nothing_is_run_where_everything_is_as_it_was() -> None:
    done = Install("pip", ("new",), ("/v/bin/python", "-m", "pip", *PIP, "new"), BEFORE)
    assert undo_argvs(done, BEFORE) == ()
    conda_too = (*BEFORE, Version("liba", "1.0", "h0_0"))
    assert undo_argvs(done, conda_too) == ()


# --- prediction ---------------------------------------------------------------------------------------------

ROOT = Toolkit(
    "/c", "/c", "conda", "12.8", "", ("the environment",),
    include=("/c/include", "/c/targets/x86_64-linux/include"),
    lib=("/c/lib", "/c/targets/x86_64-linux/lib"), stubs=("/c/lib/stubs",),
)  # fmt: skip
NAMES = ("libcudart.so", "libcuda.so", "libcublas.so", "libcublasLt.so")
SO = LibraryFile("shared", "x86_64", 64)


def facts(**sections: Any) -> Facts:
    usual: dict[str, Any] = {
        "target": target("/c", "conda"),
        "environ": Environ({}, "current", ("/c/bin", "/usr/bin")),
        "packages": Packages(()),
        "conda": Conda("/c", (CondaRecord("cuda-nvcc", "12.8.61"),), 1),
        "tools": BuildTools({"ninja": BuildTool(), "cmake": BuildTool("/usr/bin/cmake")}, ""),
        "toolkits": Toolkits((ROOT,), (), {ROOT.include[1]: HeaderDirectory(True, ("nvrtc.h",))}),
        "libraries": Libraries(
            {"/c/lib64": LinkDirectory(True, real="/c/lib"), "/c/lib/stubs": LinkDirectory(True)}, NAMES
        ),
        "machine": Machine("x86_64", "Linux", "", "", 8, 0, 0, None, None),
    }
    return Facts(**{**usual, **sections})


def test_a_distribution_is_there_with_the_version_that_is_asked_for() -> None:
    was = Packages((Distribution("ninja", "1.0", "/s"), Distribution("six", "1.0", "/s")))
    wanted = Install("pip", ("Nvidia_NVTX==13.0.85", "ninja>=1.1", "six==2.0"))
    found = predicted(wanted, facts(packages=was)).packages
    assert isinstance(found, Packages)
    versions = {d.name: d.version for d in found.distributions}
    assert versions == {"nvidia-nvtx": "13.0.85", "ninja": "", "six": "2.0"}


def test_the_prebuilt_operators_are_seen_by_flashinfer() -> None:
    was = Packages((), flashinfer=FlashInfer("0.5.3", (), ""))
    found = predicted(Install("pip", ("flashinfer-jit-cache==0.5.3",)), facts(packages=was)).packages
    assert isinstance(found, Packages) and found.flashinfer is not None
    assert found.flashinfer.jit_cache == "0.5.3"


@pytest.mark.parametrize("tool", ["conda", "pip"])
def test_ninja_is_in_the_environment_s_bin_and_found_where_that_is_on_path(tool: str) -> None:
    found = predicted(Install(tool, ("ninja", "cmake")), facts()).tools
    assert isinstance(found, BuildTools)
    assert found.tools["ninja"] == BuildTool("/c/bin/ninja")
    assert found.tools["cmake"] == BuildTool("/usr/bin/cmake")
    elsewhere = facts(environ=Environ({}, "current", ("/usr/bin",)))
    found = predicted(Install(tool, ("ninja",)), elsewhere).tools
    assert isinstance(found, BuildTools) and found.tools["ninja"] == BuildTool(elsewhere="/c/bin/ninja")


def test_conda_s_development_packages_bring_headers_and_link_names() -> None:
    wanted = Install("conda", ("cuda-cudart-dev=12.8", "libcublas-dev", "cuda-driver-dev"))
    found = predicted(wanted, facts())
    assert isinstance(found.conda, Conda) and isinstance(found.toolkits, Toolkits)
    assert isinstance(found.libraries, Libraries)
    assert found.conda.find("cuda-cudart-dev") == CondaRecord("cuda-cudart-dev", "12.8")
    assert found.conda.count == 4
    headers = found.toolkits.headers["/c/targets/x86_64-linux/include"]
    assert {"cuda_runtime.h", "cublas_v2.h", "cublasLt.h", "nvrtc.h"} <= set(headers.headers)
    assert "curand.h" not in headers.headers
    assert headers.cudart_version == "12.8"
    directories = found.libraries.directories
    assert directories["/c/lib64"].files == {name: SO for name in NAMES if name != "libcuda.so"}
    assert directories["/c/lib/stubs"].files == {"libcuda.so": SO}


def test_a_wheel_s_headers_are_predicted_but_no_link_names() -> None:
    root = "/v/lib/python3.11/site-packages/nvidia/cu13"
    cu13 = Toolkit(
        root, root, "pip-cu13", "13.0", "", ("pip",), include=(f"{root}/include",), lib=(f"{root}/lib",)
    )
    libraries = Libraries({f"{root}/lib": LinkDirectory(True)}, NAMES)
    was = facts(target=target(), toolkits=Toolkits((cu13,), (), {}), libraries=libraries)
    found = predicted(Install("pip", ("nvidia-cublas", "nvidia-cuda-runtime==13.0.96")), was)
    assert isinstance(found.toolkits, Toolkits)
    headers = found.toolkits.headers[f"{root}/include"]
    assert {"cublas_v2.h", "cuda.h"} <= set(headers.headers) and headers.cudart_version == "13.0"
    assert found.libraries == libraries


def test_a_toolkit_that_is_not_there_yet_is_not_invented() -> None:
    was = facts(toolkits=Toolkits((), (), {}))
    found = predicted(Install("conda", ("cuda-cudart-dev", "cuda-nvcc")), was)
    assert (found.toolkits, found.libraries) == (was.toolkits, was.libraries)
    assert predicted(NINJA, Facts()) == Facts()
