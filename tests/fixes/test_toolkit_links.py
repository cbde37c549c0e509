"""One link is made, in a toolkit, to libraries that were seen."""

import pytest
from msgspec import structs

from cudadoctor.actions import MakeLink
from cudadoctor.facts import LinkDirectory, Unknown
from tests.checks.build import PREFIX, folder, libraries, shared, toolkit, toolkits

from .ask import HOSTILE_PATHS, plan, refused

CONDA = toolkits(toolkit(PREFIX, layout="conda"))
SEEN = libraries(
    {
        f"{PREFIX}/lib64": LinkDirectory(False),
        f"{PREFIX}/lib": folder(cudart=shared()),
        "/opt/other/lib": folder(cudart=shared()),
    }
)


def test_makes_the_link_of_a_conda_prefix() -> None:
    made = plan("toolkit-links", {"path": f"{PREFIX}/lib64", "text": "lib"}, toolkits=CONDA, libraries=SEEN)
    assert made == [MakeLink(f"{PREFIX}/lib64", "lib")]


def test_makes_a_link_to_one_file() -> None:
    root = f"{PREFIX}/nvidia/cu13"
    values = {"path": f"{root}/lib64/libcudart.so", "text": "../lib/libcudart.so.13"}
    seen = libraries({f"{root}/lib": LinkDirectory(True, {"libcudart.so.13": shared()})})
    pip = toolkits(toolkit(root, "13.0.88", "pip-cu13"))
    assert plan("toolkit-links", values, toolkits=pip, libraries=seen) == [MakeLink(*values.values())]


def test_knows_a_toolkit_and_its_folders_by_their_real_place() -> None:
    real = "/usr/local/cuda-12.8"
    linked = toolkits(structs.replace(toolkit(), real=real))
    seen = libraries(
        {"/usr/local/cuda/lib": LinkDirectory(True, {"libcudart.so.12": shared()}, f"{real}/lib")}
    )
    values = {"path": f"{real}/lib/libcudart.so", "text": "libcudart.so.12"}
    assert plan("toolkit-links", values, toolkits=linked, libraries=seen) == [MakeLink(*values.values())]


@pytest.mark.parametrize(
    "path", [*HOSTILE_PATHS, "/etc/lib64", PREFIX, f"{PREFIX}2/lib64", f"{PREFIX}//lib64"]
)
def test_refuses_a_place_outside_every_toolkit(path: str) -> None:
    refused("toolkit-links", {"path": path, "text": "lib"}, toolkits=CONDA, libraries=SEEN)


@pytest.mark.parametrize(
    "text", ["", "/opt/env/lib", "lib/", "./lib", "lib\n", "lib32", "../../etc", "../other/bin"]
)
def test_refuses_a_text_that_leads_to_nothing_that_was_seen(text: str) -> None:
    refused("toolkit-links", {"path": f"{PREFIX}/lib64", "text": text}, toolkits=CONDA, libraries=SEEN)


def test_refuses_what_cannot_be_compared_with_anything() -> None:
    values = {"path": f"{PREFIX}/lib64", "text": "lib"}
    refused("toolkit-links", values, toolkits=Unknown("denied"), libraries=SEEN)
    refused("toolkit-links", values, toolkits=CONDA, libraries=Unknown("denied"))
