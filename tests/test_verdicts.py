"""Commands to copy: whatever the machine has in its names, they stay one command of plain words."""

import shlex

import pytest

from cudadoctor.actions import Install
from cudadoctor.facts import Conda, Distribution, Packages
from cudadoctor.findings import Remedy
from cudadoctor.installers.choice import Refused, prepare
from cudadoctor.testing import FakeHost
from cudadoctor.verdicts import conda_install, pip_for, pip_install, pip_of, pip_uninstall
from tests.checks.installed import PREFIX, all_of, broken, one, target

ODD = ("foo==1;touch x", "x>=1", "x==1.*", "a b", "$(id)==1", "it's", "x!=1,<2")


def words(remedy: Remedy) -> list[str]:
    return shlex.split(remedy.summary)


@pytest.mark.parametrize("package", ODD)
def test_a_package_is_one_word_whatever_it_is_called(package: str) -> None:
    pip = pip_for(target(), all_of(one("a", "1")))
    python = f"{PREFIX}/bin/python3"
    assert words(pip_install(pip, package)) == [python, "-m", "pip", "install", package]
    assert shlex.split(pip_uninstall("pip", package)) == ["pip", "uninstall", "-y", package]
    assert words(conda_install("/my env", package))[2:4] == ["-p", "/my env"]
    assert words(conda_install("/my env", package))[-1] == package.removesuffix("=")
    assert words(conda_install("/a b/.pixi/envs/default", package))[-2:] == ["/a b", package]


def test_packages_know_the_environment_that_they_are_installed_in() -> None:
    from msgspec.structs import replace

    found = all_of(one("a", "1"))
    assert pip_of(found).words == "pip"  # in a report of an older version
    assert pip_of(replace(found, target=target())) == pip_for(target(), found)


def test_a_folder_with_a_blank_is_one_word() -> None:
    from msgspec.structs import replace

    odd = replace(target(), python="/my env/bin/python3")
    with_pip = pip_for(odd, all_of(one("a", "1")))
    assert words(pip_install(with_pip, "ninja"))[:3] == ["/my env/bin/python3", "-m", "pip"]
    by_uv = pip_for(replace(odd, kind="uv"), packages())
    assert words(pip_install(by_uv, "ninja")) == ["uv", "pip", "install", "--python", odd.python, "ninja"]


def packages(*found: Distribution) -> Packages:
    return Packages(found)


def test_an_environment_without_a_python_gets_no_command() -> None:
    """The first python3 on PATH would install into something else."""
    from msgspec.structs import replace

    pip = pip_for(replace(target(), python=""), all_of(one("a", "1")))
    remedy = pip_install(pip, "ninja")
    assert remedy.fix == "show" and "its Python is gone" in remedy.summary
    assert "install ninja" not in remedy.summary and not pip_uninstall(pip, "ninja")


@pytest.mark.parametrize(
    ("kind", "install", "uninstall"),
    [
        ("uv", "uv pip install --python {python} x", "uv pip uninstall --python {python} x"),
        (
            "venv",
            "{python} -m ensurepip --upgrade && {python} -m pip install x",
            "{python} -m ensurepip --upgrade && {python} -m pip uninstall -y x",
        ),
        (
            "conda",
            "conda install -p {prefix} -c conda-forge pip && {python} -m pip install x",
            "conda install -p {prefix} -c conda-forge pip && {python} -m pip uninstall -y x",
        ),
    ],
)
def test_where_there_is_no_pip_another_way_is_named(kind: str, install: str, uninstall: str) -> None:
    named = {"python": f"{PREFIX}/bin/python3", "prefix": PREFIX}
    for held in (packages(), packages(broken("pip", "26.0", "no METADATA in it"))):
        pip = pip_for(target(kind), held)
        assert pip_install(pip, "x").summary == install.format(**named)
        assert pip_uninstall(pip, "x") == uninstall.format(**named)
    whole = pip_for(target(kind), all_of(one("a", "1")))
    assert pip_install(whole, "x").summary == f"{PREFIX}/bin/python3 -m pip install x"


def test_says_the_same_as_the_fix_would() -> None:
    """Where no uv is on PATH the fix names a command too: for what uv made it is this one."""
    venv, action = target("uv"), Install("pip", ("x",))
    refused = prepare(action, venv, packages(), Conda(""), FakeHost({}))
    assert isinstance(refused, Refused)
    assert refused.show == pip_install(pip_for(venv, packages()), "x").summary
    plain = prepare(action, target(), packages(), Conda(""), FakeHost({}))
    assert isinstance(plain, Refused)
    assert plain.show == pip_install(pip_for(target(), packages()), "x").summary


def test_a_package_called_like_an_option_is_none() -> None:
    assert words(pip_install("pip", "-r==1", "x")) == ["pip", "install", "--", "-r==1", "x"]


def test_what_the_fix_cannot_do_is_shown() -> None:
    assert pip_install("pip", "x").fix == "pip-install"
    again = pip_install("pip", "x==1", again=True)
    assert (again.fix, words(again)[2:4]) == ("show", ["--force-reinstall", "--no-deps"])
    assert "--no-deps" not in words(pip_install("pip", "x==1", again=True, alone=False))
    elsewhere = pip_install("pip", "x==1", index="https://a/b;c")
    assert (elsewhere.fix, words(elsewhere)[-2:]) == ("show", ["--index-url", "https://a/b;c"])
