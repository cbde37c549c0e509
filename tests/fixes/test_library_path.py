"""LIBRARY_PATH gets folders; both lists lose what does harm."""

import pytest

from cudadoctor.actions import Export
from cudadoctor.facts import Unknown
from tests.checks.build import environ

from .ask import HOSTILE_PATHS, plan, refused


def test_adds_behind_what_is_there() -> None:
    values = {"LIBRARY_PATH": "/mine:/opt/env/lib:/opt/env/lib/stubs"}
    made = plan("library-path", values, environ=environ(LIBRARY_PATH="/mine"))
    assert made == [Export("LIBRARY_PATH", add=("/opt/env/lib", "/opt/env/lib/stubs"))]


@pytest.mark.parametrize("name", ["LIBRARY_PATH", "LD_LIBRARY_PATH"])
def test_takes_entries_out(name: str) -> None:
    around = environ(**{name: "/x:/opt/cuda/lib64/stubs"})
    assert plan("library-path", {name: "/x"}, environ=around) == [
        Export(name, remove=("/opt/cuda/lib64/stubs",))
    ]


@pytest.mark.parametrize("name", ["LIBRARY_PATH", "LD_LIBRARY_PATH"])
@pytest.mark.parametrize("before", ["/x:", ":/x", "/x::"])
def test_takes_empty_entries_out(name: str, before: str) -> None:
    (change,) = plan("library-path", {name: "/x"}, environ=environ(**{name: before}))
    assert isinstance(change, Export) and change.is_list and not change.add


def test_nothing_is_ever_added_to_the_loaders_variable() -> None:
    said = refused("library-path", {"LD_LIBRARY_PATH": "/x:/lib"}, environ=environ(LD_LIBRARY_PATH="/x"))
    assert "nothing is ever added" in said


@pytest.mark.parametrize("value", [path for path in HOSTILE_PATHS if path and ":" not in path])
def test_refuses_to_add_what_is_no_folder(value: str) -> None:
    refused("library-path", {"LIBRARY_PATH": value}, environ=environ())


def test_refuses_other_variables_none_and_what_changes_nothing() -> None:
    refused("library-path", {"PATH": "/evil"}, environ=environ())
    refused("library-path", {}, environ=environ())
    refused("library-path", {"LIBRARY_PATH": ""}, environ=environ())
    assert "timed out" in refused("library-path", {"LIBRARY_PATH": "/a"}, environ=Unknown("timed out"))
