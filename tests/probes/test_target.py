"""Which environment is diagnosed, and that what files tell of it is what its interpreter says itself."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from cudadoctor.facts import Target
from cudadoctor.host import RealHost
from cudadoctor.probes.target import NoTarget, Request, probe
from cudadoctor.testing import FakeHost, Link

VENV = "home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.11.2\n"
DEBIAN: dict[str, object] = {
    "/usr/bin/python3": Link("python3.11"),
    "/usr/lib/python3.11/os.py": "",
    "/usr/lib/python3/dist-packages/": "",
    "/usr/include/python3.11/Python.h": "",
    "/usr/include/python3.11/patchlevel.h": '#define PY_VERSION "3.11.2"\n',
}


def venv(prefix: str, cfg: str = VENV, python: str = "/usr/bin/python3") -> dict[str, object]:
    return {
        f"{prefix}/pyvenv.cfg": cfg,
        f"{prefix}/bin/python3": Link(python),
        f"{prefix}/lib/python3.11/site-packages/": "",
    }


def conda(prefix: str, version: str = "3.12.4") -> dict[str, object]:
    minor = version.rpartition(".")[0]
    return {
        f"{prefix}/conda-meta/python-{version}-h194c7f8_0_cpython.json": "{}",
        f"{prefix}/bin/python3": Link(f"python{minor}"),
        f"{prefix}/bin/python{minor}": "",
        f"{prefix}/lib/python{minor}/os.py": "",
        f"{prefix}/lib/python{minor}/site-packages/": "",
    }


def machine(*trees: Mapping[str, object], **options: Any) -> FakeHost:
    """Return a Debian with these trees; every file in a bin folder may be run."""
    files = {**DEBIAN, **{path: content for tree in trees for path, content in tree.items()}}
    programs = [path for path in files if "/bin/python" in path and not isinstance(files[path], Link)]
    return FakeHost(files, executables=["/usr/bin/python3.11", *programs], **options)


def look(host: FakeHost | RealHost, prefix: str = "", python: str = "", name: str = "") -> Target:
    return probe(host, Request(prefix, python, name))


def mistake(host: FakeHost | RealHost, **request: str) -> str:
    with pytest.raises(NoTarget) as caught:
        look(host, **request)
    text = str(caught.value)
    assert text.isprintable() and text
    return text


# --- the choice ---------------------------------------------------------------------------------------------


def test_the_prefix_that_is_named_wins_over_the_active_environment() -> None:
    host = machine(venv("/a"), venv("/b"), environ={"VIRTUAL_ENV": "/a", "PATH": "/a/bin:/usr/bin"})
    target = look(host, prefix="/b")
    assert (target.prefix, target.chosen_by, target.active) == ("/b", "--prefix", False)


def test_the_active_virtual_environment_is_the_target() -> None:
    host = machine(venv("/a"), environ={"VIRTUAL_ENV": "/a", "PATH": "/a/bin:/usr/bin"})
    target = look(host)
    assert (target.prefix, target.kind, target.chosen_by, target.active) == (
        "/a",
        "venv",
        "VIRTUAL_ENV",
        True,
    )
    assert target.site_packages == ("/a/lib/python3.11/site-packages",)
    assert (target.version, target.base_prefix) == ("3.11.2", "/usr")


def test_the_active_conda_environment_is_the_target() -> None:
    host = machine(conda("/c"), environ={"CONDA_PREFIX": "/c", "CONDA_SHLVL": "1"})
    target = look(host)
    assert (target.prefix, target.kind, target.version, target.base_prefix) == ("/c", "conda", "3.12.4", "/c")


@pytest.mark.parametrize(
    ("path", "winner"),
    [("/v/bin:/c/bin", "/v"), ("/c/bin/:/v/bin", "/c"), ("/usr/bin", "/v"), ("/link/bin", "/c")],
)
def test_of_two_active_ones_the_first_on_path_wins_and_the_other_is_noted(path: str, winner: str) -> None:
    environ = {"VIRTUAL_ENV": "/v", "CONDA_PREFIX": "/c", "PATH": path}
    target = look(machine(venv("/v"), conda("/c"), {"/link": Link("/c")}, environ=environ))
    assert target.prefix == winner
    assert any("is set too" in note for note in target.notes)


def test_an_active_conda_environment_without_python_yields_to_one_with() -> None:
    tools = {"/c/conda-meta/ninja-1.12-0.json": "{}", "/c/bin/ninja": ""}
    environ = {"VIRTUAL_ENV": "/v", "CONDA_PREFIX": "/c", "PATH": "/c/bin:/v/bin"}
    assert look(machine(venv("/v"), tools, environ=environ)).prefix == "/v"


def test_nested_conda_activation_means_the_inner_environment() -> None:
    environ = {
        "CONDA_PREFIX": "/c/envs/x",
        "CONDA_PREFIX_1": "/c",
        "CONDA_SHLVL": "2",
        "PATH": "/c/envs/x/bin",
    }
    target = look(machine(conda("/c"), conda("/c/envs/x", "3.10.1"), environ=environ))
    assert (target.prefix, target.version, target.notes) == ("/c/envs/x", "3.10.1", ())


def test_both_variables_may_name_one_environment() -> None:
    environ = {"VIRTUAL_ENV": "/c/", "CONDA_PREFIX": "/c", "PATH": "/c/bin"}
    target = look(machine(conda("/c"), environ=environ))
    assert (target.prefix, target.notes, target.active) == ("/c", (), True)


def test_a_deleted_environment_is_noted_and_python_on_path_taken() -> None:
    target = look(machine(environ={"VIRTUAL_ENV": "/gone", "PATH": "/usr/bin"}))
    assert (target.prefix, target.chosen_by) == ("/usr", "python3 on PATH")
    assert target.notes == ("VIRTUAL_ENV=/gone is no folder: ignored",)


def test_an_active_environment_that_may_not_be_seen_is_noted_as_that() -> None:
    closed = {"/root": PermissionError(13, "Permission denied")}
    target = look(machine(closed, environ={"VIRTUAL_ENV": "/root/v", "PATH": "/usr/bin"}))
    assert target.notes == ("VIRTUAL_ENV=/root/v cannot be seen: this user may not enter /root: ignored",)


def test_an_emptied_environment_is_noted_too() -> None:
    target = look(machine({"/empty/": ""}, environ={"VIRTUAL_ENV": "/empty"}))
    assert target.notes == ("VIRTUAL_ENV=/empty is no Python environment: ignored",)


def test_an_image_that_only_puts_the_environment_on_path_is_active() -> None:
    target = look(machine(venv("/venv"), environ={"PATH": "/venv/bin:/usr/bin"}))
    assert (target.prefix, target.chosen_by, target.active) == ("/venv", "python3 on PATH", True)
    assert look(machine(conda("/c"), environ={"PATH": "/c/bin:/usr/bin"}), prefix="/c").active


@pytest.mark.parametrize(
    "path", ["", ":", "/usr/bin", "::/usr/bin::", "relative:/usr/bin", "/nowhere:/usr/bin/"]
)
def test_path_may_hold_anything(path: str) -> None:
    host = machine(environ={"PATH": path})
    if "/usr/bin" in path:
        assert look(host).prefix == "/usr"
    else:
        assert "no python3 is on PATH" in mistake(host)


def test_an_empty_path_entry_is_the_current_folder() -> None:
    target = look(machine(venv("/v"), environ={"PATH": ":/usr/bin"}, cwd="/v/bin"))
    assert (target.prefix, target.python) == ("/v", "/v/bin/python3")


def test_python3_anywhere_on_path_comes_before_python() -> None:
    files = {"/old/bin/python": Link("python2.7"), "/old/bin/python2.7": ""}
    assert look(machine(files, environ={"PATH": "/old/bin:/usr/bin"})).prefix == "/usr"
    assert "no python3 is on PATH" in mistake(machine(files, environ={"PATH": "/old/bin"}))


# --- our own home -------------------------------------------------------------------------------------------


def test_the_home_that_uvx_put_on_path_is_passed_over() -> None:
    own = "/home/ada/.cache/uv/archive-v0/Xyz"
    host = machine(venv(own), own_prefix=own, environ={"PATH": f"{own}/bin:/usr/bin"})
    assert look(host).prefix == "/usr"
    host = machine(venv(own), own_prefix=own, environ={"PATH": f"{own}/bin:/usr/bin", "VIRTUAL_ENV": own})
    assert look(host).prefix == "/usr"


def test_our_home_is_a_target_where_the_stack_lives_in_it_too() -> None:
    torch = {"/own/lib/python3.11/site-packages/torch/version.py": ""}
    host = machine(venv("/own"), torch, own_prefix="/own", environ={"PATH": "/own/bin:/usr/bin"})
    assert look(host).prefix == "/own"


def test_our_home_alone_yields_to_another_active_environment() -> None:
    environ = {"VIRTUAL_ENV": "/own", "CONDA_PREFIX": "/c", "PATH": "/own/bin:/c/bin"}
    assert look(machine(venv("/own"), conda("/c"), own_prefix="/own", environ=environ)).prefix == "/c"


def test_an_environment_that_was_activated_is_the_target_even_when_it_is_ours_alone() -> None:
    host = machine(venv("/own"), own_prefix="/own", environ={"VIRTUAL_ENV": "/own"})
    target = look(host)
    assert target.prefix == "/own" and "this program lives in it" in target.notes[0]


def test_our_home_on_path_alone_is_no_target() -> None:
    host = machine(venv("/own"), own_prefix="/own", environ={"PATH": "/own/bin"})
    assert "name one with --prefix" in mistake(host)


def test_a_system_python_is_a_target_whoever_lives_there() -> None:
    assert look(machine(own_prefix="/usr", environ={"PATH": "/usr/bin"})).prefix == "/usr"


def test_a_home_with_the_stack_that_nobody_named_is_pointed_out() -> None:
    torch = {"/own/lib/python3.11/site-packages/torch/version.py": ""}
    target = look(machine(venv("/own"), torch, own_prefix="/own", environ={"PATH": "/usr/bin"}))
    assert target.prefix == "/usr" and "--prefix /own" in target.notes[0]


# --- kinds --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        (venv("/p"), "venv"),
        (venv("/p", VENV + "virtualenv = 20.26.0\n"), "virtualenv"),
        (venv("/p", VENV.replace("version =", "version_info =") + "uv = 0.4.0\n"), "uv"),
        (conda("/p"), "conda"),
        ({**conda("/p"), "/p/conda-meta/pixi": "{}"}, "pixi"),
    ],
)
def test_kinds_are_told_by_their_files(files: Mapping[str, object], kind: str) -> None:
    assert look(machine(files), prefix="/p").kind == kind


def test_pixi_is_told_by_its_place() -> None:
    prefix = "/proj/.pixi/envs/default"
    target = look(machine(conda(prefix), environ={"CONDA_PREFIX": prefix, "PIXI_IN_SHELL": "1"}))
    assert (target.kind, target.active) == ("pixi", True)


def test_a_conda_base_environment_is_conda() -> None:
    assert look(machine(conda("/opt/conda")), prefix="/opt/conda").kind == "conda"


def test_a_conda_environment_without_python_is_a_target() -> None:
    target = look(machine({"/c/conda-meta/history": ""}), prefix="/c")
    assert (target.kind, target.python, target.version, target.site_packages) == ("conda", "", "", ())


def test_a_uv_managed_python_tells_its_version_by_its_folder() -> None:
    root = "/home/ada/.local/share/uv/python/cpython-3.12.4-linux-x86_64-gnu"
    base = {f"{root}/bin/python3.12": "", f"{root}/lib/python3.12/os.py": ""}
    cfg = f"home = {root}/bin\nimplementation = CPython\nuv = 0.4.0\nversion_info = 3.12.4\n"
    files = {**base, **venv("/p", cfg, f"{root}/bin/python3.12"), "/p/lib/python3.12/site-packages/": ""}
    target = look(machine(files), prefix="/p")
    assert (target.kind, target.version, target.base_prefix) == ("uv", "3.12.4", root)
    assert target.site_packages == ("/p/lib/python3.12/site-packages",)
    direct = look(machine(files), python=f"{root}/bin/python3.12")
    assert (direct.prefix, direct.kind, direct.version) == (root, "system", "3.12.4")


def test_a_free_threaded_python_has_folders_of_its_own() -> None:
    root = "/opt/cpython-3.13.1+freethreaded-linux-x86_64-gnu"
    files = {
        f"{root}/bin/python3": Link("python3.13t"),
        f"{root}/bin/python3.13t": "",
        f"{root}/lib/python3.13t/os.py": "",
        f"{root}/lib/python3.13t/site-packages/": "",
        f"{root}/lib/python3.13/site-packages/": "",
    }
    target = look(machine(files), prefix=root)
    assert (target.version, target.include) == ("3.13.1", f"{root}/include/python3.13t")
    assert target.site_packages == (f"{root}/lib/python3.13t/site-packages",)


def test_a_python_in_usr_local_is_found_as_container_images_have_it() -> None:
    files = {
        "/usr/local/bin/python3": Link("python3.12"),
        "/usr/local/bin/python3.12": "",
        "/usr/local/lib/python3.12/os.py": "",
        "/usr/local/lib/python3.12/site-packages/": "",
        "/usr/local/include/python3.12/patchlevel.h": '#define PY_VERSION   "3.12.9"',
    }
    target = look(machine(files, environ={"PATH": "/usr/local/bin:/usr/bin"}))
    assert (target.prefix, target.kind, target.version, target.active) == (
        "/usr/local",
        "system",
        "3.12.9",
        True,
    )
    assert target.site_packages == ("/usr/local/lib/python3.12/site-packages",)


def test_fedora_s_system_python_looks_in_usr_local_too() -> None:
    files = {
        "/usr/bin/python3": Link("python3.12"),
        "/usr/bin/python3.12": "",
        "/usr/lib64/python3.12/os.py": "",
        "/usr/lib64/python3.12/site-packages/": "",
        "/usr/lib/python3.12/site-packages/": "",
        "/usr/local/lib/python3.12/site-packages/": "",
    }
    target = look(FakeHost(files, executables=["/usr/bin/python3.12"]))
    assert target.site_packages == (
        "/usr/local/lib/python3.12/site-packages",
        "/usr/lib/python3.12/site-packages",
        "/usr/lib64/python3.12/site-packages",
    )


def test_altinstall_leaves_only_a_versioned_python() -> None:
    files = {"/p/bin/python3.11": "", "/p/lib/python3.11/os.py": ""}
    assert look(machine(files), prefix="/p").python == "/p/bin/python3.11"


def test_the_user_s_own_packages_are_searched_unless_switched_off() -> None:
    mine = "/home/ada/.local/lib/python3.11/site-packages"
    assert look(machine({f"{mine}/": ""}), prefix="/usr").site_packages[0] == mine
    off = machine({f"{mine}/": ""}, environ={"PYTHONNOUSERSITE": "1"})
    assert mine not in look(off, prefix="/usr").site_packages
    assert mine not in look(machine({f"{mine}/": ""}, venv("/v")), prefix="/v").site_packages


def test_pythonpath_comes_first() -> None:
    host = machine(
        venv("/v"), {"/src/torch/": ""}, environ={"PYTHONPATH": "/src:/absent:", "VIRTUAL_ENV": "/v"}
    )
    assert look(host).site_packages == ("/src", "/v/lib/python3.11/site-packages")


# --- who owns it --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tree", "cfg", "lock"),
    [
        ({"/proj/uv.lock": ""}, "uv = 0.9.0\n", "/proj/uv.lock"),
        ({"/proj/uv.lock": ""}, "", "/proj/uv.lock"),
        ({"/proj/poetry.lock": ""}, "virtualenv = 20.26.0\n", "/proj/poetry.lock"),
        ({"/proj/pdm.lock": ""}, "", "/proj/pdm.lock"),
        ({"/proj/Pipfile.lock": ""}, "", "/proj/Pipfile.lock"),
        ({"/proj/uv.lock": "", "/proj/poetry.lock": ""}, "uv = 0.9.0\n", "/proj/uv.lock"),
        ({"/proj/uv.lock": "", "/proj/poetry.lock": ""}, "virtualenv = 20.26.0\n", "/proj/poetry.lock"),
        ({"/proj/uv.lock/": "", "/proj/pyproject.toml": "", "/uv.lock": ""}, "", ""),
    ],
)
def test_the_project_beside_an_environment_owns_it(tree: Mapping[str, object], cfg: str, lock: str) -> None:
    assert look(machine(venv("/proj/.venv", VENV + cfg), tree), prefix="/proj/.venv").lock_file == lock


def test_an_environment_that_a_project_only_happens_to_hold_is_not_its_own() -> None:
    trees = (venv("/proj/other"), {"/proj/uv.lock": ""})
    assert look(machine(*trees), prefix="/proj/other").lock_file == ""


def test_an_environment_in_poetry_s_cache_does_not_tell_its_project() -> None:
    prefix = "/home/ada/.cache/pypoetry/virtualenvs/mine-Xy12_abc-py3.11"
    assert look(machine(venv(prefix, VENV + "virtualenv = 20.26.0\n")), prefix=prefix).lock_file == ""


def test_a_pixi_project_owns_its_environments_wherever_they_are_kept() -> None:
    inside, outside = "/proj/.pixi/envs/gpu", "/home/ada/.cache/rattler/cache/envs/proj-12/envs/gpu"
    lock: dict[str, object] = {"/proj/pixi.lock": "version: 6\n"}
    assert look(machine(conda(inside), lock), prefix=inside).lock_file == "/proj/pixi.lock"
    told = {f"{outside}/conda-meta/pixi": '{"manifest_path": "/proj/pixi.toml"}'}
    assert look(machine(conda(outside), lock, told), prefix=outside).lock_file == "/proj/pixi.lock"
    assert (
        look(machine(conda(outside), lock, {f"{outside}/conda-meta/pixi": "{"}), prefix=outside).lock_file
        == ""
    )
    made_by_hand = "/home/ada/.pixi/envs/tools"
    assert look(machine(conda(made_by_hand)), prefix=made_by_hand).lock_file == ""


# --- broken environments ------------------------------------------------------------------------------------


def test_a_virtual_environment_whose_python_is_gone_is_still_told() -> None:
    cfg = "home = /opt/gone/bin\nversion = 3.10.4\n"
    files = venv("/v", cfg, "/opt/gone/bin/python3.10")
    files["/v/lib/python3.10/site-packages/"] = ""
    target = look(machine(files), prefix="/v")
    assert (target.python, target.version, target.base_prefix) == ("", "3.10.4", "/opt/gone")
    assert target.site_packages == ("/v/lib/python3.10/site-packages",)
    assert "/opt/gone/bin/python3.10 is gone" in target.notes[0]


def test_a_virtual_environment_whose_python_may_not_be_seen_is_not_called_gone() -> None:
    closed = {"/root": PermissionError(13, "Permission denied")}
    python = "/root/py/bin/python3.11"
    target = look(machine(venv("/v", VENV.replace("/usr/bin", "/root/py/bin"), python), closed), prefix="/v")
    assert target.python == "" and "gone" not in target.notes[0]
    assert target.notes[0].endswith("this user may not enter /root")


def test_a_system_upgraded_under_a_virtual_environment_is_noted() -> None:
    target = look(machine(venv("/v", VENV.replace("3.11.2", "3.9.2"))), prefix="/v")
    assert target.version == "3.11.2"
    assert "made for Python 3.9.2, but its interpreter is 3.11 by now" in target.notes


def test_a_patch_upgrade_is_seen_without_a_note() -> None:
    target = look(machine(venv("/v", VENV.replace("3.11.2", "3.11.0"))), prefix="/v")
    assert (target.version, target.notes) == ("3.11.2", ())


@pytest.mark.parametrize("cfg", ["", "\0\0\0", "no pairs here\n", "home\n=\n = \n"])
def test_a_damaged_pyvenv_cfg_is_still_a_virtual_environment(cfg: str) -> None:
    target = look(machine(venv("/v", cfg)), prefix="/v")
    assert (target.kind, target.base_prefix) == ("venv", "/usr")
    assert target.site_packages == ("/v/lib/python3.11/site-packages",)


def test_an_old_python_is_noted() -> None:
    files = {"/p/bin/python3": Link("python3.6"), "/p/bin/python3.6": "", "/p/lib/python3.6/os.py": ""}
    assert any("older than 3.8" in note for note in look(machine(files), prefix="/p").notes)


# --- the user's mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefix", "says"),
    [
        ("/nowhere", "no such folder"),
        ("/usr/bin/python3", "name an interpreter with --python"),
        ("/etc/passwd", "not a folder"),
        ("/etc", "no Python environment"),
        ("/loop", "symbolic links"),
        ("/dangling", "no such folder"),
        ("/root", "Permission denied"),
        ("a\0b", "not a path"),
        ("/\x1b[31mred\n", "no such folder"),
        ("/caf\udce9", "no such folder"),
        ("../..", "no Python environment"),
    ],
)
def test_a_wrong_prefix_is_one_clear_line(prefix: str, says: str) -> None:
    files = {
        "/etc/passwd": "",
        "/loop": Link("loop"),
        "/dangling": Link("/gone"),
        "/root/": PermissionError(13, "Permission denied"),
    }
    assert says in mistake(machine(files), prefix=prefix)


@pytest.mark.parametrize(
    ("python", "says"),
    [
        ("/nowhere/python3", "not an executable file"),
        ("/etc", "not an executable file"),
        ("python9", "not found on PATH"),
        ("/usr/bin/perl", "not a Python interpreter"),
        ("/usr/bin/python", "not a Python interpreter"),
        ("/usr/bin/python2", "Python 2"),
        ("\x1b]0;title\x07", "not found on PATH"),
    ],
)
def test_a_wrong_interpreter_is_one_clear_line(python: str, says: str) -> None:
    files = {
        "/etc/x": "",
        "/usr/bin/perl": "\x7fELF",
        "/usr/bin/python": "#!/bin/sh\nexec somewhere python\n",
        "/usr/bin/python2": Link("python2.7"),
        "/usr/bin/python2.7": "",
    }
    host = FakeHost(
        {**DEBIAN, **files}, executables=["/usr/bin/perl", "/usr/bin/python", "/usr/bin/python2.7"]
    )
    assert says in mistake(host, python=python)


def test_a_wrong_name_says_which_are_known() -> None:
    host = machine({"/home/ada/.conda/environments.txt": "/c\n/c/envs/one\n/c/envs/two\n"})
    assert "(known: c, one, two)" in mistake(host, name="three")
    for name in ("../../etc", "a/b", "", "\x1b[2J"):
        if name:
            mistake(host, name=name)


def test_a_relative_prefix_needs_a_current_folder() -> None:
    assert "the current folder is gone" in mistake(machine(cwd=""), prefix="env")


# --- ways to write a path -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given", ["/e/env", "/e/env/", "/e//env/.", "env", "./env/", "../e/env", "~/../../e/env"]
)
def test_a_prefix_is_understood_however_it_is_written(given: str) -> None:
    target = look(machine(venv("/e/env"), {"/home/ada/": ""}, cwd="/e"), prefix=given)
    assert target.prefix == "/e/env"


def test_a_prefix_through_a_link_keeps_its_name() -> None:
    host = machine(venv("/e/env"), {"/current": Link("/e/env")}, environ={"VIRTUAL_ENV": "/e/env"})
    target = look(host, prefix="/current")
    assert (target.prefix, target.active) == ("/current", True)


def test_two_dots_after_a_link_mean_what_the_kernel_takes_them_for() -> None:
    files = {"/far/away/": "", "/here/link": Link("/far/away"), **venv("/far/env"), **conda("/here/env")}
    assert look(machine(files), prefix="/here/link/../env").kind == "venv"


# --- conda by name ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "where"),
    [
        ({"CONDA_EXE": "/m/bin/conda"}, "/m/envs/x"),
        ({"MAMBA_ROOT_PREFIX": "/m"}, "/m/envs/x"),
        ({"CONDA_PREFIX": "/m/envs/other"}, "/m/envs/x"),
        ({"CONDA_PREFIX": "/m"}, "/m/envs/x"),
        ({"CONDA_ENVS_PATH": "/none:/big/disk"}, "/big/disk/x"),
        ({}, "/home/ada/miniforge3/envs/x"),
        ({}, "/opt/conda/envs/x"),
        ({}, "/home/ada/.conda/envs/x"),
    ],
)
def test_a_conda_environment_is_found_by_name(environ: dict[str, str], where: str) -> None:
    target = look(machine(conda(where), environ=environ), name="x")
    assert (target.prefix, target.chosen_by) == (where, "--name x")


def test_conda_s_own_list_is_read_last() -> None:
    files = {"/home/ada/.conda/environments.txt": "/strange/place/x\n", **conda("/strange/place/x")}
    assert look(machine(files), name="x").prefix == "/strange/place/x"


def test_base_is_the_root_environment() -> None:
    assert look(machine(conda("/m"), environ={"CONDA_EXE": "/m/bin/conda"}), name="base").prefix == "/m"


# --- shims and scripts --------------------------------------------------------------------------------------

PYENV = "/home/ada/.pyenv"


def pyenv(**files: str) -> dict[str, object]:
    tree: dict[str, object] = {f"{PYENV}/shims/python3": "#!/usr/bin/env bash\nexec pyenv exec\n"}
    for version in ("3.9.1", "3.11.7", "3.11.10"):
        minor, root = version.rpartition(".")[0], f"{PYENV}/versions/{version}"
        tree |= {f"{root}/bin/python3": Link(f"python{minor}"), f"{root}/bin/python{minor}": ""}
        tree |= {f"{root}/lib/python{minor}/os.py": "", f"{root}/lib/python{minor}/site-packages/": ""}
    return {**tree, **files}


def shim_host(files: Mapping[str, object], **environ: str) -> FakeHost:
    tree = {**DEBIAN, **files}
    run = [
        path
        for path in tree
        if "/python" in path and not isinstance(tree[path], Link) and "/lib/" not in path
    ]
    environ = {"PATH": f"{PYENV}/shims:/usr/bin", **environ}
    return FakeHost(
        tree, executables=["/usr/bin/python3.11", *run], environ=environ, cwd="/home/ada/proj/deep"
    )


@pytest.mark.parametrize(
    ("files", "environ", "version"),
    [
        ({f"{PYENV}/version": "3.11.7\n"}, {}, "3.11.7"),
        ({f"{PYENV}/version": "# mine\n3.9.1 # old\n"}, {}, "3.9.1"),
        ({f"{PYENV}/version": "3.11\n"}, {}, "3.11.10"),
        ({f"{PYENV}/version": "3.11.7\n"}, {"PYENV_VERSION": "3.9.1:3.11.7"}, "3.9.1"),
        ({f"{PYENV}/version": "3.11.7", "/home/ada/proj/.python-version": "3.9.1\n"}, {}, "3.9.1"),
        ({f"{PYENV}/version": "3.11.7", "/home/.python-version": "\n"}, {}, "3.11.7"),
        ({f"{PYENV}/version": "../../../usr\n3.9.1"}, {}, "3.9.1"),
    ],
)
def test_a_pyenv_shim_is_followed_by_pyenv_s_rules(
    files: dict[str, str], environ: dict[str, str], version: str
) -> None:
    host = shim_host({**pyenv(), **files}, **environ)
    for target in (look(host), look(host, python="python3"), look(host, python=f"{PYENV}/shims/python3")):
        assert (target.prefix, target.kind) == (f"{PYENV}/versions/{version}", "pyenv")
        assert target.version == version


@pytest.mark.parametrize("version", ["system\n", "", "4.0.0\n"])
def test_a_shim_that_leads_nowhere_is_passed_over(version: str) -> None:
    host = shim_host({**pyenv(), f"{PYENV}/version": version})
    assert look(host).prefix == "/usr"
    assert "not a Python interpreter" in mistake(host, python=f"{PYENV}/shims/python3")


def test_other_managers_shims_are_passed_over() -> None:
    files = {
        "/m/shims/python3": Link("/usr/bin/mise"),
        "/a/shims/python3": "#!/bin/sh\nexec asdf exec python3\n",
    }
    host = FakeHost(
        {**DEBIAN, **files},
        executables=["/usr/bin/mise", "/a/shims/python3", "/usr/bin/python3.11"],
        environ={"PATH": "/m/shims:/a/shims:/usr/bin"},
    )
    assert look(host).prefix == "/usr"


def test_a_script_is_followed_to_the_interpreter_it_names() -> None:
    script = '#!/bin/sh\n# not /usr/bin/python3\nexec "/c/bin/python3" -s "$@"\n'
    files = {"/tools/bin/python3": script, **conda("/c")}
    host = machine(files, environ={"PATH": "/tools/bin:/usr/bin"})
    assert look(host).prefix == look(host, python="/tools/bin/python3").prefix == "/c"


def test_a_link_to_a_virtual_environment_s_python_does_not_enter_it() -> None:
    files = {**venv("/v"), "/home/ada/bin/python3": Link("/v/bin/python3")}
    assert look(machine(files), python="/home/ada/bin/python3").prefix == "/usr"


# --- what the interpreter itself says -----------------------------------------------------------------------

SAY = """
import json, sys, sysconfig
print(json.dumps({
    "prefix": sys.prefix, "base": sys.base_prefix, "version": "%d.%d.%d" % sys.version_info[:3],
    "include": sysconfig.get_path("include"), "sites": [p for p in sys.path if p.endswith("-packages")],
}))
"""
PYENV_PYTHONS = {
    f"3.{minor}": sorted(Path.home().glob(f".pyenv/versions/3.{minor}.*")) for minor in range(8, 15)
}
PYTHONS = {
    "this one": Path(sys.base_prefix, "bin/python3"),
    "/usr/bin": Path("/usr/bin/python3"),
    "/bin": Path("/bin/python3"),
    **{name: (found[-1] / "bin/python3" if found else Path()) for name, found in PYENV_PYTHONS.items()},
}


@pytest.fixture(params=PYTHONS)
def python(request: pytest.FixtureRequest) -> Path:
    """Return each Python that this machine has."""
    found = PYTHONS[request.param]
    if not os.access(found, os.X_OK) or not found.is_file():
        pytest.skip(f"no Python {request.param} on this machine")
    return found


@pytest.fixture
def environ(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Return plain variables with a home that has packages of its own for every Python."""
    for minor in range(8, 15):
        (tmp_path / f"home/.local/lib/python3.{minor}/site-packages").mkdir(parents=True)
    yield {"HOME": f"{tmp_path}/home", "PATH": "/usr/bin:/bin"}


def agree(target: Target, python: Path | str, environ: Mapping[str, str]) -> None:
    """Compare a target with what its interpreter says of itself."""
    done = subprocess.run(
        [str(python), "-c", SAY], env=environ, cwd="/", capture_output=True, text=True, check=True
    )
    said = json.loads(done.stdout)
    ours = (target.prefix, target.base_prefix, target.version, target.include, list(target.site_packages))
    assert ours == tuple(said[key] for key in ("prefix", "base", "version", "include", "sites"))


def test_base_interpreters_agree(python: Path, environ: dict[str, str]) -> None:
    agree(look(RealHost(environ), python=str(python)), python, environ)


@pytest.mark.parametrize("options", [[], ["--copies"], ["--system-site-packages"]], ids=" ".join)
def test_virtual_environments_agree(
    python: Path, options: list[str], environ: dict[str, str], tmp_path: Path
) -> None:
    subprocess.run(
        [python, "-m", "venv", "--without-pip", *options, tmp_path / "env"], env=environ, check=True
    )
    made = tmp_path / "env" / "bin" / "python3"
    for environment in (environ, {**environ, "PYTHONNOUSERSITE": "1"}):
        agree(look(RealHost(environment), prefix=f"{tmp_path}/env"), made, environment)
        agree(look(RealHost(environment), python=str(made)), made, environment)


def test_a_virtual_environment_of_a_virtual_environment_agrees(
    environ: dict[str, str], tmp_path: Path
) -> None:
    python: Path | str = PYTHONS["this one"]
    for name in ("one", "two"):
        subprocess.run([python, "-m", "venv", "--without-pip", tmp_path / name], env=environ, check=True)
        python = f"{tmp_path}/{name}/bin/python3"
    agree(look(RealHost(environ), prefix=f"{tmp_path}/two"), python, environ)


def test_an_active_virtual_environment_agrees(environ: dict[str, str], tmp_path: Path) -> None:
    prefix = f"{tmp_path}/caf\u00e9 env"
    subprocess.run([PYTHONS["this one"], "-m", "venv", "--without-pip", prefix], env=environ, check=True)
    environ |= {"VIRTUAL_ENV": f"{prefix}/", "PATH": f"{prefix}/bin:/usr/bin"}
    target = look(RealHost(environ))
    assert (target.chosen_by, target.active) == ("VIRTUAL_ENV", True)
    agree(target, f"{prefix}/bin/python3", environ)


def test_environments_of_uv_agree(python: Path, environ: dict[str, str], tmp_path: Path) -> None:
    if (uv := shutil.which("uv")) is None:
        pytest.skip("no uv on this machine")
    argv: list[str | Path] = [uv, "venv", "--offline", "--no-config", "-q", "-p", python, tmp_path / "env"]
    subprocess.run(argv, env=environ, check=True)
    target = look(RealHost(environ), prefix=f"{tmp_path}/env")
    assert target.kind == "uv"
    agree(target, tmp_path / "env/bin/python3", environ)


def test_environments_of_virtualenv_agree(python: Path, environ: dict[str, str], tmp_path: Path) -> None:
    if (virtualenv := shutil.which("virtualenv")) is None:
        pytest.skip("no virtualenv on this machine")
    argv: list[str | Path] = [
        virtualenv,
        "-q",
        "--no-download",
        "--without-pip",
        "-p",
        python,
        tmp_path / "env",
    ]
    if subprocess.run(argv, env=environ).returncode:
        pytest.skip("this virtualenv makes none of this Python")
    target = look(RealHost(environ), prefix=f"{tmp_path}/env")
    assert target.kind == "virtualenv"
    agree(target, tmp_path / "env/bin/python3", environ)


def test_the_pyenv_shim_of_this_machine_is_followed_as_pyenv_does(tmp_path: Path) -> None:
    shim = Path.home() / ".pyenv/shims/python3"
    pyenv_root = Path.home() / ".pyenv"
    if not shim.is_file():
        pytest.skip("no pyenv on this machine")
    environ = {"HOME": str(Path.home()), "PATH": f"{shim.parent}:{pyenv_root}/bin:/usr/bin:/bin"}
    done = subprocess.run(
        [shim, "-c", "import sys; print(sys.prefix)"], env=environ, capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip("pyenv has no version chosen here")
    assert look(RealHost(environ)).prefix == done.stdout.strip()
