"""Every row is held to its own samples: each is explained by that row, and by no other."""

import io
import re
import string

import pytest
from _pytest.mark import ParameterSet

from cudadoctor.explain import Explanation, Kind, Signature
from cudadoctor.explain.cause import explain
from cudadoctor.explain.scan import scan
from cudadoctor.explain.signatures import rows
from cudadoctor.registry import load, load_fixes

ROWS = [row.signature for row in rows()]
CAUSES = (Kind.CAUSE, Kind.HINT)
#: Of every cause that a row may name: what programs of this field die of, and what only looks like it.
IDS = re.compile(r"[a-z0-9]+(-[a-z0-9.]+)*")


def explained(log: str) -> Explanation:
    return explain(scan(rows(), [log.encode()]), "log")


def samples(*kinds: Kind) -> list[ParameterSet]:
    return [
        pytest.param(row, sample, id=f"{row.id}-{number}")
        for row in ROWS
        if row.kind in kinds
        for number, sample in enumerate(row.sample)
    ]


@pytest.mark.parametrize(("row", "sample"), samples(*CAUSES))
def test_a_sample_of_a_cause_is_explained_by_its_own_row_alone(row: Signature, sample: str) -> None:
    told = explained(sample)
    assert told.root is not None, "no row fits"
    assert told.root.signature == row.id
    assert [each.signature for each in told.others] == []
    causes = [each for each in told.consequences if each.kind in CAUSES]
    assert [each.signature for each in causes if each.cause != row.cause] == []


@pytest.mark.parametrize(("row", "sample"), samples(Kind.HARMLESS, Kind.CONSEQUENCE))
def test_a_sample_of_what_is_no_cause_fits_its_own_row_alone(row: Signature, sample: str) -> None:
    told = explained(sample)
    assert told.root is None, told.root
    assert {each.signature for each in (*told.harmless, *told.consequences)} == {row.id}


@pytest.mark.parametrize(("row", "sample"), samples(*CAUSES, Kind.HARMLESS))
def test_a_sample_is_explained_through_every_prefix(row: Signature, sample: str) -> None:
    before = (
        "vllm-1  | 2026-01-22T20:00:36.123Z (APIServer pid=1) (EngineCore_DP0 pid=68) "
        "ERROR 02-06 16:40:06 [core.py:936] ",
        "\x1b[1;36m(Worker_TP0 pid=12)\x1b[0;0m WARNING 06-09 02:10:11 [flashinfer_all_reduce.py:74] ",
        "[rank3]: ",
        "  │ ",
    )
    for prefix in before:
        told = explained("".join(f"{prefix}{line}\n" for line in sample.splitlines()))
        seen = {told.root.signature} if told.root else {each.signature for each in told.harmless}
        assert seen == {row.id}, prefix


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_a_row_says_what_it_has_to(row: Signature) -> None:
    assert row.find and all(len(each) >= 4 for each in row.find), "a string that short is everywhere"
    if row.kind is Kind.SIGN:
        assert not (row.cause or row.checks or row.title)
        return
    assert row.sample and row.title and row.source
    named = (row.title, *row.about)
    names = {name for text in named for _, name, _, _ in string.Formatter().parse(text) if name}
    assert names <= set(re.compile(row.match).groupindex), "the row speaks of a group that is none"
    if row.kind in CAUSES:
        assert IDS.fullmatch(row.cause), row.cause
        assert bool(row.checks) != bool(row.unchecked), "a check, or the reason why there is none"
        assert row.is_not
        assert row.checks or row.remedy


def test_rows_name_checks_and_causes_that_there_are() -> None:
    checks = load(launch=True)
    causes = {row.cause for row in ROWS if row.cause}
    for row in ROWS:
        assert set(row.checks) <= set(checks.checks), row.id
        assert set(row.yields) <= causes, row.id
        fixes = re.findall(r"cudadoctor fix ([\w-]+)", row.remedy)
        assert set(fixes) <= {*checks.checks, *load_fixes().fixes}, row.id


def test_no_row_tells_to_do_what_makes_things_worse() -> None:
    for row in ROWS:
        assert not re.search(r"\bsudo\b|LD_LIBRARY_PATH=|--force-reinstall", row.remedy), row.id


def test_an_empty_log_has_no_cause() -> None:
    assert explained("").root is None
    assert scan(rows(), io.BytesIO(b"")).lines == 0
