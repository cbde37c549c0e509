"""How a check ended. An outcome says whether a verdict was reached; severity says how bad it is."""

from __future__ import annotations

from msgspec import Struct

from cudadoctor.findings import Finding


class _Ended(Struct, frozen=True):
    check: str
    reason: str = ""
    duration_ms: float = 0.0
    findings: tuple[Finding, ...] = ()


class Passed(_Ended, frozen=True, tag_field="outcome", tag="passed"):
    """The check looked and found nothing wrong."""


class Failed(_Ended, frozen=True, tag_field="outcome", tag="failed"):
    """The check found something; its findings say what and how bad."""


class Skipped(_Ended, frozen=True, tag_field="outcome", tag="skipped"):
    """The check does not apply here, or was not asked for."""


class Inconclusive(_Ended, frozen=True, tag_field="outcome", tag="inconclusive"):
    """The check applies, but what it needs could not be seen."""


class Crashed(_Ended, frozen=True, tag_field="outcome", tag="crashed"):
    """The check itself failed: a bug of the check, never a verdict on the machine."""


Outcome = Passed | Failed | Skipped | Inconclusive | Crashed
