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
    """Return whether one cause is so, by the outcomes of its checks; the surest of them counts first.

    Any of them confirms it, where what it finds is what the line names. Only the surest contradicts it.
    """
    if not signature.checks:
        return Here(UNKNOWN, "", f"no check can tell: {signature.unchecked}", (), seen.remedy)
    ran = [(name, outcomes[name]) for name in signature.checks if name in outcomes]
    for name, outcome in ran:
        if isinstance(outcome, Failed) and (findings := _same(outcome, seen)):
            finding = max(findings, key=lambda each: each.severity.rank)
            return Here(CONFIRMED, name, finding.summary, _evidence(finding), _fix(name, findings, seen))
    for name, outcome in ran:
        if isinstance(outcome, (Inconclusive, Crashed)):
            return Here(UNKNOWN, name, outcome.reason, (), seen.remedy)
    if not ran:
        return Here(UNKNOWN, signature.checks[0], "the check is left out", (), seen.remedy)
    name, outcome = ran[0]
    if isinstance(outcome, Passed) and name not in _OF_NOW | _OF_WHAT_IS_DECLARED:
        return Here(CONTRADICTED, name, _PASSES, (), seen.remedy)
    return Here(UNKNOWN, name, _undecided(name, outcome), (), seen.remedy)


_PASSES = (
    "the check passes: repaired since, another machine or environment, or a file that it does not look at"
)
#: What these look at is otherwise an hour later, and the disks are those of the caches alone.
_OF_NOW = {
    "build-lock-stale", "build-memory-short", "cache-disk-full", "disk-nearly-full", "gpu-memory-held",
    "gpu-memory-not-free", "port-in-use", "shm-too-small", "weights-do-not-fit",
}  # fmt: skip
_PASSES_NOW = "the check passes now, which tells nothing of the time of the log"
#: A package may need what it does not declare, and an installation that was refused leaves no trace.
_OF_WHAT_IS_DECLARED = {"requirement-conflict"}
_PASSES_DECLARED = "what the installed packages declare fits; what was compiled, or refused, may not"


def _same(outcome: Failed, seen: Seen) -> list[Finding]:
    """Return the findings that are about what the line names."""
    if not seen.about:
        return list(outcome.findings)
    return [each for each in outcome.findings if any(name.lower() in _text(each) for name in seen.about)]


def _text(finding: Finding) -> str:
    evidence = (f"{each.source} {each.detail}" for each in finding.evidence)
    return "\n".join((finding.summary, *evidence)).lower()


def _undecided(name: str, outcome: Outcome) -> str:
    """Return why a check that ended so neither confirms nor contradicts."""
    if isinstance(outcome, Failed):
        return f"the check finds another: {outcome.findings[0].summary}"
    if isinstance(outcome, Passed):
        return _PASSES_NOW if name in _OF_NOW else _PASSES_DECLARED
    reason = outcome.reason.replace("(see: cudadoctor preflight)", "(give its command after --)")
    return reason or "the check does not apply here"


def _evidence(finding: Finding) -> tuple[str, ...]:
    said = [": ".join(filter(None, (each.source, each.detail))) for each in finding.evidence]
    return tuple(said[:_EVIDENCE])


def _fix(name: str, findings: Sequence[Finding], seen: Seen) -> str:
    """Return the command that repairs it; where no fix can, what helps."""
    remedies = [remedy for finding in findings for remedy in finding.remedies]
    if any(remedy.fix != "show" for remedy in remedies):
        return f"cudadoctor fix {name}"
    shown = [remedy.summary for remedy in remedies if remedy.summary and "label" not in remedy.values]
    return shown[0] if shown else seen.remedy
