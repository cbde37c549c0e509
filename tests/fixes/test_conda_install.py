"""conda installs into the environment that is diagnosed, and into no other."""

import pytest
from msgspec import structs

from cudadoctor.actions import Install, Safety, Show
from cudadoctor.facts import Target, Unknown
from cudadoctor.registry import load_fixes
from tests.checks.build import PREFIX, toolkit, toolkits

from .ask import HOSTILE_PATHS, plan, refused

TARGET = Target(PREFIX, "conda", f"{PREFIX}/bin/python3", "3.12.1", PREFIX, (), "", "CONDA_PREFIX", True)
COMMAND = f"conda install -p {PREFIX} ninja"
VALUES = {"prefix": PREFIX, "packages": "cuda-version=12.8 libcublas-dev"}


def test_asks_for_the_packages() -> None:
    made = plan("conda-install", VALUES, COMMAND, target=TARGET)
    assert made == [Install("conda", ("cuda-version=12.8", "libcublas-dev"))]


def test_knows_the_environment_by_another_spelling() -> None:
    kit = structs.replace(toolkit(PREFIX, layout="conda"), spellings=("/home/ada/env",))
    values = {**VALUES, "prefix": "/home/ada/env"}
    (made,) = plan("conda-install", values, target=TARGET, toolkits=toolkits(kit))
    assert isinstance(made, Install)


@pytest.mark.parametrize(
    "target",
    [structs.replace(TARGET, prefix="/opt/another"), structs.replace(TARGET, kind="pixi"), Unknown("x")],
)
def test_another_environment_is_left_to_the_user(target: Target | Unknown) -> None:
    assert plan("conda-install", VALUES, COMMAND, target=target) == [Show(COMMAND)]
    refused("conda-install", VALUES, "", target=target)


def test_is_unsafe() -> None:
    assert load_fixes().fixes["conda-install"].safety is Safety.UNSAFE


@pytest.mark.parametrize(
    "packages",
    ["", "--force-reinstall ninja", "-c evil x", "evil::x", "https://evil/x.conda", "x\ny", "x;y", "x>=1"],
)
def test_refuses_what_is_no_plain_package(packages: str) -> None:
    refused("conda-install", {**VALUES, "packages": packages}, COMMAND, target=TARGET)


@pytest.mark.parametrize("prefix", HOSTILE_PATHS)
def test_refuses_what_is_no_prefix(prefix: str) -> None:
    refused("conda-install", {**VALUES, "prefix": prefix}, COMMAND, target=TARGET)


def test_refuses_a_remedy_without_values() -> None:
    refused("conda-install", {}, COMMAND, target=TARGET)
