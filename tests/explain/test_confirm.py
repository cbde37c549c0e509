"""What a check's outcome says of a cause: confirmed, contradicted, or that nothing can be told."""

from typing import Any

import pytest

from cudadoctor.explain import Explanation, Here
from cudadoctor.explain.confirm import _OF_NOW, _OF_WHAT_IS_DECLARED, confirmed
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.outcomes import Failed, Inconclusive, Outcome, Passed, Skipped
from cudadoctor.registry import load

from .build import row, told

HEADER: dict[str, Any] = {"match": r"error: (?P<header>\S+\.h)", "about": ("{header}",)}


def failed(check: str, *summaries: str, fix: str = "show") -> Failed:
    remedies = (Remedy(fix, {}, "do this"),)
    return Failed(
        check,
        findings=tuple(
            Finding(each, Severity.ERROR, (Evidence("/x", "seen"),), remedies) for each in summaries
        ),
    )


def judged(log: str, *outcomes: Outcome, checks: tuple[str, ...] = ("a", "b"), **more: Any) -> Explanation:
    signature = row("link", "cannot find", checks=checks, remedy="remedy", **more)
    return confirmed(told(log, signature), {"link": signature}, {each.check: each for each in outcomes})


def here(*outcomes: Outcome, log: str = "cannot find", **more: Any) -> Here:
    root = judged(log, *outcomes, **more).root
    assert root is not None and root.here is not None
    return root.here


def test_a_check_that_fails_confirms_with_its_evidence_and_its_fix() -> None:
    said = here(Passed("a"), failed("b", "no lib64", fix="link"))
    assert (said.verdict, said.check, said.says) == ("confirmed", "b", "no lib64")
    assert said.evidence == ("/x: seen",)
    assert said.fix == "cudadoctor fix b"
    assert here(failed("a", "no lib64")).fix == "do this"


def test_what_the_line_names_is_what_a_finding_has_to_name() -> None:
    log = "cannot find: error: cuda_runtime.h"
    both = failed("a", "no curand.h", "no cuda_runtime.h")
    assert here(both, log=log, **HEADER).says == "no cuda_runtime.h"
    other = here(failed("a", "no curand.h"), log=log, **HEADER)
    assert (other.verdict, other.says) == ("unknown", "the check finds another: no curand.h")
    assert other.fix == "remedy"


def test_a_group_that_took_no_part_asks_nothing_of_a_finding() -> None:
    optional: dict[str, Any] = {"match": r"cannot find(?: (?P<header>\S+\.h))?", "about": ("{header}",)}
    assert here(failed("a", "no curand.h"), **optional).verdict == "confirmed"


def test_the_surest_check_contradicts_by_passing_and_a_lesser_one_does_not() -> None:
    assert here(Passed("a"), Skipped("b", "deep")).verdict == "contradicted"
    lesser = here(Skipped("a", "deep: runs only with --deep"), Passed("b"))
    assert (lesser.verdict, lesser.says) == ("unknown", "deep: runs only with --deep")
    assert here(Passed("a"), Inconclusive("b", "no nvcc")).verdict == "unknown"


@pytest.mark.parametrize("check", ("port-in-use", "cache-disk-full", "requirement-conflict"))
def test_a_check_of_the_moment_or_of_what_is_declared_never_contradicts(check: str) -> None:
    said = here(Passed(check), checks=(check,))
    assert said.verdict == "unknown" and said.says


def test_the_checks_that_never_contradict_are_checks() -> None:
    assert load(launch=True).checks.keys() >= _OF_NOW | _OF_WHAT_IS_DECLARED


def test_a_check_that_needs_a_launch_says_how_to_give_one() -> None:
    skipped = Skipped("a", "launch: no launch was given (see: cudadoctor preflight)")
    assert here(skipped).says == "launch: no launch was given (give its command after --)"


def test_without_an_outcome_nothing_is_told() -> None:
    assert here().says == "the check is left out"
    said = here(checks=(), unchecked="nothing is left to look at")
    assert (said.verdict, said.says) == ("unknown", "no check can tell: nothing is left to look at")


def test_a_confirmed_cause_goes_before_a_contradicted_one() -> None:
    first, second = row("first", "one", checks=("a",)), row("second", "two", checks=("b",))
    seen = told("one\ntwo\n", first, second)
    judged = confirmed(
        seen, {"first": first, "second": second}, {"a": Passed("a"), "b": failed("b", "it is so")}
    )
    assert judged.root is not None and judged.root.cause == "second"
    assert [each.cause for each in judged.others] == ["first"]
