"""What a fix makes of a remedy, on facts made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from cudadoctor.actions import Action
from cudadoctor.facts import Facts
from cudadoctor.findings import Remedy
from cudadoctor.registry import load_fixes


def plan(fix: str, values: dict[str, str], summary: str = "", **sections: Any) -> list[Action]:
    """Return the actions that a remedy comes to on these sections."""
    return list(load_fixes().fixes[fix].plan(Remedy(fix, values, summary), Facts(**sections)))


def refused(fix: str, values: dict[str, str], summary: str = "", **sections: Any) -> str:
    """Return why the fix refuses a remedy: one line that begins with its name."""
    with pytest.raises(ValueError) as caught:
        plan(fix, values, summary, **sections)
    said = str(caught.value)
    assert said.startswith(f"{fix}: ") and "\n" not in said
    return said


#: What a saved report may hold where a path belongs.
HOSTILE_PATHS = (
    "",
    "cuda",
    "~/cuda",
    "/opt/cuda/../../etc",
    "/opt/a:/opt/b",
    "/opt/\ncuda",
    "/opt/\x1b[2Jcuda",
    "/" + "x" * 40_000,
)
