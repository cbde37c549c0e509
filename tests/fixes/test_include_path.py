"""CPATH gets folders, or loses them."""

import pytest

from cudadoctor.actions import Export
from cudadoctor.facts import Unknown
from tests.checks.build import environ

from .ask import HOSTILE_PATHS, plan, refused


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        (None, "/opt/include", Export("CPATH", add=("/opt/include",))),
        ("/mine", "/mine:/opt/include", Export("CPATH", add=("/opt/include",))),
        ("/mine:/other", "/mine", Export("CPATH", remove=("/other",))),
        ("/other", "", Export("CPATH", remove=("/other",))),
        ("rel:/other", "rel", Export("CPATH", remove=("/other",))),
    ],
)
def test_changes_only_what_differs(before: str | None, after: str, change: Export) -> None:
    around = environ(**({} if before is None else {"CPATH": before}))
    assert plan("include-path", {"CPATH": after}, environ=around) == [change]


def test_an_empty_entry_goes() -> None:
    (change,) = plan("include-path", {"CPATH": "/a:/b"}, environ=environ(CPATH="/a:"))
    assert isinstance(change, Export) and change.add == ("/b",)


@pytest.mark.parametrize("value", [path for path in HOSTILE_PATHS if path and ":" not in path])
def test_refuses_to_add_what_is_no_folder(value: str) -> None:
    refused("include-path", {"CPATH": value}, environ=environ())


def test_refuses_other_variables_none_and_what_changes_nothing() -> None:
    refused("include-path", {"LD_PRELOAD": "/evil.so"}, environ=environ())
    refused("include-path", {}, environ=environ())
    refused("include-path", {"CPATH": "/a"}, environ=environ(CPATH="/a"))
    assert "timed out" in refused("include-path", {"CPATH": "/a"}, environ=Unknown("timed out"))
