"""One link shows the host compiler the headers that nvcc has."""

import pytest
from msgspec import structs

from cudadoctor.actions import MakeLink
from cudadoctor.facts import Unknown
from tests.checks.build import PREFIX, toolkit, toolkits

from .ask import HOSTILE_PATHS, plan, refused

TEXT = "targets/x86_64-linux/include"
BARE = toolkits(structs.replace(toolkit(PREFIX, layout="conda"), include=(f"{PREFIX}/{TEXT}",)))


def test_makes_the_link() -> None:
    made = plan("toolkit-headers", {"path": f"{PREFIX}/include", "text": TEXT}, toolkits=BARE)
    assert made == [MakeLink(f"{PREFIX}/include", TEXT)]


@pytest.mark.parametrize("path", [*HOSTILE_PATHS, "/etc/include", f"{PREFIX}/lib64", f"{PREFIX}/x/include"])
def test_refuses_another_place(path: str) -> None:
    refused("toolkit-headers", {"path": path, "text": TEXT}, toolkits=BARE)


@pytest.mark.parametrize(
    "text", ["", "/usr/include", "../../usr/include", "targets", f"{TEXT}/", f"./{TEXT}"]
)
def test_refuses_headers_that_nvcc_does_not_know(text: str) -> None:
    refused("toolkit-headers", {"path": f"{PREFIX}/include", "text": text}, toolkits=BARE)


def test_refuses_where_toolkits_are_unknown() -> None:
    refused("toolkit-headers", {"path": f"{PREFIX}/include", "text": TEXT}, toolkits=Unknown("denied"))
