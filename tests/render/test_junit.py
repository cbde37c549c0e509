"""A report as JUnit XML: what CI systems count, and that nothing from the machine is read as XML."""

import re
from xml.etree import ElementTree as xml

import pytest
from hypothesis import given
from hypothesis import strategies as st
from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from cudadoctor.findings import Evidence, Severity
from cudadoctor.outcomes import Failed, Passed
from cudadoctor.render import junit
from cudadoctor.report import Report
from tests.render.build import finding, report
from tests.render.test_markdown import HOSTILE, everywhere

#: What the common schema (Jenkins' junit-10.xsd) lets an element hold: its attributes, and its children.
SHAPE = {
    "testsuites": ({"name", "time", "tests", "failures", "errors", "skipped"}, {"testsuite"}),
    "testsuite": (
        {"name", "tests", "failures", "errors", "skipped", "time", "timestamp"},
        {"properties", "testcase"},
    ),
    "properties": (set(), {"property"}),
    "property": ({"name", "value"}, set()),
    "testcase": ({"name", "classname", "time"}, {"failure", "error", "skipped", "system-out"}),
    "failure": ({"message", "type"}, set()),
    "error": ({"message", "type"}, set()),
    "skipped": ({"message"}, set()),
    "system-out": (set(), set()),
}


def must_fit(element: xml.Element) -> None:
    attributes, children = SHAPE[element.tag]
    assert set(element.attrib) <= attributes and {child.tag for child in element} <= children, element.tag
    for number in ("tests", "failures", "errors", "skipped"):
        assert number not in element.attrib or element.attrib[number].isdecimal()
    assert re.fullmatch(r"\d+\.\d+", element.get("time", "0.0"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", element.get("timestamp", "2026-11-21T09:00:00"))
    for child in element:
        must_fit(child)


def read(ended: Report, fail_on: Severity | None = Severity.ERROR) -> dict[str, TestCase]:
    """Return the test cases as another reader of JUnit XML finds them, by name."""
    text = junit.render(ended, fail_on)
    must_fit(xml.fromstring(text))
    suites = JUnitXml.fromstring(text.encode())
    (suite,) = suites
    assert isinstance(suite, TestSuite)
    cases = list(suite)
    assert len(cases) == suite.tests == suites.tests == len(ended.outcomes)
    results = [result for case in cases for result in case.result]
    for kind, number in ((Failure, suite.failures), (Error, suite.errors), (Skipped, suite.skipped)):
        assert sum(isinstance(result, kind) for result in results) == number
    return {case.name: case for case in cases}


def test_a_finding_at_the_threshold_fails_its_case_and_the_rest_is_output() -> None:
    cases = read(report())
    (failure,) = cases["cuda-home-wrong"].result
    assert failure.message == "torch and vLLM will take CUDA_HOME=/usr/local: no headers"
    assert failure.type == "error" and failure.text.splitlines() == [
        "error: torch and vLLM will take CUDA_HOME=/usr/local: no headers",
        "  seen: /usr/local/bin/nvcc: is a script, line 2: exec /usr/local/cuda-13.0/bin/nvcc",
        "  seen: /usr/local: no include/cuda_runtime.h in it",
        "  fix: export CUDA_HOME=/usr/local/cuda-13.0",
    ]
    assert not cases["ninja-missing"].result
    assert str(cases["ninja-missing"].system_out).startswith("warning: ninja is not on the PATH")
    assert not cases["a-passes"].result and cases["a-passes"].system_out is None


def test_the_threshold_is_the_one_of_the_exit_code() -> None:
    assert read(report(), Severity.WARNING)["ninja-missing"].result
    assert not any(isinstance(r, Failure) for case in read(report(), None).values() for r in case.result)


def test_an_accepted_finding_fails_nothing_and_says_why() -> None:
    case = read(report(), Severity.NOTE)["libcuda-link-missing"]
    assert not case.result and case.system_out == "warning: no stub (accepted: built elsewhere)"


def test_a_check_without_a_verdict_is_skipped_and_one_that_crashed_is_an_error() -> None:
    cases = read(report())
    (undecided,) = cases["host-compiler-unsupported"].result
    (skipped,) = cases["jit-build-fails"].result
    (crashed,) = cases["plug-in-check"].result
    assert (
        isinstance(undecided, Skipped) and undecided.message == "no verdict: compilers: did not end in time"
    )
    assert isinstance(skipped, Skipped) and skipped.message == "deep: runs only with --deep"
    assert isinstance(crashed, Error) and crashed.message.startswith("ZeroDivisionError")


def test_several_findings_of_a_check_are_one_failure_with_the_worst_first() -> None:
    found = Failed("a", findings=(finding("small", Severity.NOTE), finding("big"), finding("bigger")))
    case = read(report(found, Passed("b")))["a"]
    (failure,) = case.result
    assert failure.message == "big (and 1 more)" and case.system_out == "note: small"


def test_failures_are_there_exactly_where_the_exit_code_is_1() -> None:
    for fail_on in (None, *Severity):
        failed = "<failure" in junit.render(report(), fail_on)
        assert failed == (report().exit_code(fail_on) == 1)


def assert_inert(hostile: str) -> None:
    text = junit.render(everywhere(hostile))
    root = xml.fromstring(text)
    must_fit(root)
    tags = [element.tag for element in root.iter()]
    assert tags == [element.tag for element in xml.fromstring(junit.render(everywhere("x"))).iter()]
    assert text.isascii() and not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text) and "##[" not in text


XML = [
    "]]>",
    "<![CDATA[",
    "<!--",
    "-->",
    "&bomb;",
    "<!DOCTYPE x>",
    "<?x?>",
    "\ufffe",
    "\uffff",
    "\0",
    "##[error]",
]


@pytest.mark.parametrize("hostile", [*HOSTILE, *XML, "\U0010ffff", "'\"<>&"])
def test_nothing_that_was_seen_is_read_as_xml(hostile: str) -> None:
    assert_inert(hostile)


@given(st.text(st.characters(codec=None, exclude_categories=())))
def test_no_text_at_all_breaks_the_document(hostile: str) -> None:
    assert_inert(hostile)
    told = Failed("a", findings=(finding(hostile or "x", evidence=(Evidence(hostile, hostile),)),))
    assert read(report(told))["a"].result
