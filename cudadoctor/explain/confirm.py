"""Asks of a cause whether it is so here: by the checks that know of it, on this machine or on a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import structs

from cudadoctor.explain.model import Explanation, Here, Seen, Signature
from cudadoctor.findings import Finding
from cudadoctor.outcomes import Crashed, Failed, Inconclusive, Outcome, Passed

CONFIRMED, CONTRADICTED, UNKNOWN = "confirmed", "contradicted", "unknown"
_EVIDENCE = 3  #: pieces that are shown; `cudadoctor check NAME` has all


def confirmed(
    told: Explanation, signatures: Mapping[str, Signature], outcomes: Mapping[str, Outcome]
) -> Explanation:
    """Return what a log tells with each cause's verdict here; one that is so goes before one that is not."""
    causes = [each for each in (told.root, *told.others) if each is not None]
    judged = [
        structs.replace(each, here=verdict(each, signatures[each.signature], outcomes)) for each in causes
    ]
    if not judged:
        return told
    if _is(judged[0], CONTRADICTED) and (so := next((each for each in judged if _is(each, CONFIRMED)), None)):
        judged.remove(so)
        judged.insert(0, so)
    return structs.replace(told, root=judged[0], others=tuple(judged[1:]))


def _is(seen: Seen, verdict: str) -> bool:
    return seen.here is not None and seen.here.verdict == verdict


def verdict(seen: Seen, signature: Signature, outcomes: Mapping[str, Outcome]) -> Here:
    """Return whether one cause is so, by the outcomes of its checks; the surest of them counts first."""
    if not signature.checks:
        return Here(UNKNOWN, "", f"no check can tell: {signature.unchecked}", (), seen.remedy)
    ran = [(name, outcomes[name]) for name in signature.checks if name in outcomes]
    for name, outcome in ran:
        if isinstance(outcome, Failed):
            finding = max(outcome.findings, key=lambda each: each.severity.rank)
            return Here(CONFIRMED, name, finding.summary, _evidence(finding), _fix(name, outcome, seen))
    for name, outcome in ran:
        if isinstance(outcome, (Inconclusive, Crashed)):
            return Here(UNKNOWN, name, outcome.reason, (), seen.remedy)
    passed = [name for name, outcome in ran if isinstance(outcome, Passed)]
    if passed:
        return Here(CONTRADICTED, passed[0], _PASSES, (), seen.remedy)
    name, reason = _skipped(ran, signature.checks)
    return Here(UNKNOWN, name, reason, (), seen.remedy)


_PASSES = "the check passes: repaired since, or the log is of another machine or environment"


def _skipped(ran: Sequence[tuple[str, Outcome]], names: Sequence[str]) -> tuple[str, str]:
    if not ran:
        return names[0], "the check is left out"
    name, outcome = ran[0]
    return name, outcome.reason or "the check does not apply here"


def _evidence(finding: Finding) -> tuple[str, ...]:
    said = [": ".join(filter(None, (each.source, each.detail))) for each in finding.evidence]
    return tuple(said[:_EVIDENCE])


def _fix(name: str, outcome: Failed, seen: Seen) -> str:
    """Return the command that repairs it; where no fix can, what helps."""
    remedies = [remedy for finding in outcome.findings for remedy in finding.remedies]
    if any(remedy.fix != "show" for remedy in remedies):
        return f"cudadoctor fix {name}"
    shown = [remedy.summary for remedy in remedies if remedy.summary and "label" not in remedy.values]
    return shown[0] if shown else seen.remedy
