"""Runs that were left half done, by their journals."""

from cudadoctor.facts import OpenRun, Repairs
from cudadoctor.testing import judge

from .build import one, shown

JOURNAL = "/opt/env/etc/cudadoctor/journal/2026-11-21-1.jsonl"


def open_run(status: str = "interrupted", *, busy: bool = False) -> Repairs:
    return Repairs(1, (OpenRun("2026-11-21-1", status, JOURNAL, busy),))


def test_reports_a_run_that_was_killed_with_both_ways_out() -> None:
    text = shown(one(judge("repair-interrupted", repairs=open_run())))
    assert JOURNAL in text and "cudadoctor undo 2026-11-21-1" in text and "fix --resume" in text


def test_an_undo_that_was_killed_can_only_be_completed() -> None:
    text = shown(one(judge("repair-interrupted", repairs=open_run("undo interrupted"))))
    assert "undoing run 2026-11-21-1" in text and "--resume" not in text


def test_a_run_that_is_still_at_work_is_no_finding() -> None:
    assert not judge("repair-interrupted", repairs=open_run(busy=True)).findings


def test_reports_a_journal_that_cannot_be_read() -> None:
    finding = one(judge("repair-interrupted", repairs=Repairs(problem=f"{JOURNAL}: line 2 is no record")))
    assert finding.evidence[0].source == JOURNAL


def test_is_silent_when_every_run_came_to_its_end() -> None:
    assert type(judge("repair-interrupted", repairs=Repairs(3))).__name__ == "Passed"


def test_is_silent_when_nothing_was_repaired() -> None:
    assert type(judge("repair-interrupted", repairs=Repairs())).__name__ == "Skipped"
