"""Runs that were left half done, by their journals."""

from cudadoctor.facts import OpenRun, Repairs, Target
from cudadoctor.outcomes import Outcome
from cudadoctor.testing import judge

from .build import one, shown

PREFIX = "/opt/my env"
JOURNAL = "/opt/env/etc/cudadoctor/journal/2026-11-21-1.jsonl"


def open_run(status: str = "interrupted", *, busy: bool = False) -> Repairs:
    return Repairs(1, (OpenRun("2026-11-21-1", status, JOURNAL, busy),))


def judged(repairs: Repairs, *, active: bool = True) -> Outcome:
    target = Target(PREFIX, "conda", "", "", "", (), "", "", active)
    return judge("repair-interrupted", repairs=repairs, target=target)


def test_reports_a_run_that_was_killed_with_both_ways_out() -> None:
    text = shown(one(judged(open_run())))
    assert JOURNAL in text and "cudadoctor undo 2026-11-21-1" in text and "fix --resume" in text


def test_an_undo_that_was_killed_can_only_be_completed() -> None:
    text = shown(one(judged(open_run("undo interrupted"))))
    assert "undoing run 2026-11-21-1" in text and "--resume" not in text


def test_the_commands_name_an_environment_that_is_not_the_active_one() -> None:
    elsewhere = shown(one(judged(open_run(), active=False)))
    assert elsewhere.count(f"--prefix '{PREFIX}'") == 2
    assert "--prefix" not in shown(one(judged(open_run())))


def test_a_run_that_is_still_at_work_is_no_finding() -> None:
    assert not judged(open_run(busy=True)).findings


def test_reports_a_journal_that_cannot_be_read() -> None:
    finding = one(judged(Repairs(problem=f"{JOURNAL}: line 2 is no record")))
    assert finding.evidence[0].source == JOURNAL


def test_is_silent_when_every_run_came_to_its_end() -> None:
    assert type(judged(Repairs(3))).__name__ == "Passed"


def test_is_silent_when_nothing_was_repaired() -> None:
    assert type(judged(Repairs())).__name__ == "Skipped"
