"""From findings to changes: which actions, in which order, and what is left for the user to do."""

from __future__ import annotations

from msgspec import Struct

from cudadoctor.actions import Action, Safety, Step


class Change(Struct, frozen=True):
    """One line of a plan: what is done at one place, for whom, and the steps that it takes."""

    fix: str
    safety: Safety
    actions: tuple[Action, ...]
    checks: tuple[str, ...]  #: names of the checks whose findings asked for it
    steps: tuple[Step, ...] = ()
    refused: str = ""  #: why it is not carried out here
