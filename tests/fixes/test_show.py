"""What only the user can do is shown as it stands."""

import pytest

from cudadoctor.actions import Safety, Show
from cudadoctor.registry import load_fixes

from .ask import plan, refused


def test_shows_the_remedys_own_words() -> None:
    assert plan("show", {}, "the package g++") == [Show("the package g++")]


def test_is_never_carried_out() -> None:
    assert load_fixes().fixes["show"].safety is Safety.MANUAL


@pytest.mark.parametrize("summary", ["", "  "])
def test_refuses_to_say_nothing(summary: str) -> None:
    refused("show", {}, summary)
