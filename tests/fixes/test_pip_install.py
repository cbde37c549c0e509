"""pip is handed requirements, and never an option."""

import pytest

from cudadoctor.actions import Install, Safety
from cudadoctor.registry import load_fixes

from .ask import plan, refused


def test_asks_for_the_packages() -> None:
    made = plan("pip-install", {"packages": "ninja nvidia-cuda-nvcc==13.0.*"})
    assert made == [Install("pip", ("ninja", "nvidia-cuda-nvcc==13.0.*"))]


def test_takes_a_range_of_versions() -> None:
    made = plan("pip-install", {"packages": "transformers>=4.56.0,<5,!=4.57.0 torch==2.9.0"})
    assert made == [Install("pip", ("transformers>=4.56.0,<5,!=4.57.0", "torch==2.9.0"))]


def test_is_unsafe() -> None:
    assert load_fixes().fixes["pip-install"].safety is Safety.UNSAFE


@pytest.mark.parametrize(
    "packages",
    ["", " ", "--index-url=http://evil ninja", "-r /tmp/x", "/tmp/evil.whl", "./here", "git+https://evil/x",
     "ninja @ https://evil/x.whl", "ninja;reboot", "ninja\nevil", "ninja[all]", "ninja>=", "ninja>=1,",
     "ninja>=1;x"],
)  # fmt: skip
def test_refuses_what_is_no_plain_requirement(packages: str) -> None:
    refused("pip-install", {"packages": packages})


def test_refuses_a_remedy_without_packages() -> None:
    refused("pip-install", {})
