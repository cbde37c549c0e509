from cudadoctor.facts import Caches, Lock, Packages, Unknown
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import one, packages
from .cached import EXTENSIONS, caches, lock


def look(*locks: Lock, seen: Caches | Unknown | None = None, installed: Packages | None = None) -> Outcome:
    return judge(
        "build-lock-stale", caches=seen or caches(locks=locks), packages=installed or packages(torch="2.9.0")
    )


def test_reports_a_lock_that_no_process_has_open() -> None:
    finding = one(look(lock("exl", False)), Severity.WARNING)
    assert "exl" in finding.summary
    (remedy,) = finding.remedies
    assert (remedy.fix, remedy.values) == ("stale-lock", {f"{EXTENSIONS}/exl/lock": ""})
    assert remedy.summary == f"rm {EXTENSIONS}/exl/lock"


def test_several_locks_are_one_finding() -> None:
    finding = one(look(lock("a", False), lock("held", True), lock("b c", False), lock("unsure", None, "?")))
    assert finding.summary.endswith(": a, b c")
    assert finding.remedies[0].summary == f"rm {EXTENSIONS}/a/lock '{EXTENSIONS}/b c/lock'"


def test_is_silent_about_a_lock_that_a_build_holds() -> None:
    assert isinstance(look(lock("a", True)), Passed)


def test_is_silent_about_an_advisory_lock_whose_file_is_left_over() -> None:
    assert isinstance(look(Lock("/x/tmp/silu.lock", "advisory", False)), Passed)


def test_is_silent_when_there_is_no_lock() -> None:
    assert isinstance(look(), Passed)


def test_there_is_no_verdict_where_the_holder_may_be_out_of_sight() -> None:
    outcome = look(lock("a", None, "it is on a file system (nfs4) that other machines may use"))
    assert isinstance(outcome, Inconclusive) and "nfs4" in outcome.reason and "a/lock" in outcome.reason


def test_is_silent_without_torch() -> None:
    assert isinstance(look(installed=packages(torch="", cuda="")), Skipped)


def test_unknown_is_not_absent() -> None:
    assert isinstance(look(seen=Unknown("timed out")), Inconclusive)
