"""What a section of the facts is."""

from __future__ import annotations

from msgspec import Struct


class Unknown(Struct, frozen=True, tag_field="probe", tag="unknown"):
    """A section that could not be had: not the same as a thing that is absent.

    `expected`: nobody asked for the section (`--deep` not given), so a check that needs it is skipped instead
    of inconclusive. `crashed`: the probe has a bug, so the check could not run at all.
    """

    reason: str
    expected: bool = False
    crashed: bool = False


class Section(Struct, frozen=True, tag_field="probe", tag="done", omit_defaults=True):
    """What one probe saw."""
