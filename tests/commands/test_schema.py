"""`cudadoctor schema`, and what reports of earlier versions are still worth."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from cudadoctor.commands.schema import KINDS

from .test_check import patient, run, verdicts

__all__ = ["patient"]
jsonschema: Any = pytest.importorskip("jsonschema")
ROOT = Path(__file__).resolve().parents[2]
REPORTS = sorted((ROOT / "tests/reports").glob("v1-*.json"))
#: Checks that judge otherwise on purpose since a report was written, with the reason.
CHANGED: dict[tuple[str, str], str] = {}


@pytest.mark.parametrize("kind", KINDS)
def test_each_schema_is_printed_as_it_is_published(kind: str) -> None:
    ran = run("schema", kind)
    assert ran.returncode == 0 and ran.stderr == ""
    assert ran.stdout == (ROOT / f"docs/{kind}.schema.json").read_text(), "run: python -m docs"
    schema = json.loads(ran.stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["title"] == f"cudadoctor {kind}"


def test_a_report_s_schema_is_the_default() -> None:
    assert run("schema").stdout == run("schema", "report").stdout


def test_the_schemas_allow_fields_that_are_not_known_yet(patient: Path) -> None:
    schema = json.loads((ROOT / "docs/report.schema.json").read_text())
    report = json.loads(run("check", "--prefix", str(patient), "--format", "json", "--no-config").stdout)
    jsonschema.validate({**report, "added": {"later": 1}}, schema)


def test_the_policy_names_every_schema_and_the_limit_of_a_file() -> None:
    from cudadoctor.commands.look import REPLAY_LIMIT_BYTES

    policy = (ROOT / "docs/schema.md").read_text()
    assert all(f"({kind}.schema.json)" in policy for kind in KINDS)
    assert f"more than {REPLAY_LIMIT_BYTES >> 20} MiB" in policy


# --- reports as earlier versions wrote them -----------------------------------------------------------------


def replayed(file: Path | str, stdin: str = "") -> Any:
    ran = run("check", "--facts", str(file), "--format", "json", "--no-config", stdin=stdin)
    assert ran.stderr == ""
    return json.loads(ran.stdout)


def ended(report: Any) -> dict[str, tuple[str, list[str]]]:
    """Return how each check ended, and how bad what it found is: its sentences may change."""
    return {
        name: (how, [each["severity"] for each in found])
        for name, (how, _, found) in verdicts(report).items()
    }


@pytest.mark.parametrize("file", REPORTS, ids=lambda file: str(file.name))
def test_an_earlier_report_gives_the_verdicts_that_it_gave(file: Path) -> None:
    then = json.loads(file.read_text())
    assert len(REPORTS) >= 3 and then["schema_version"] == 1
    before, now = ended(then), ended(replayed(file))
    assert len(before) >= 18
    for name in before:
        if (file.name, name) not in CHANGED:
            assert now[name] == before[name], f"{name} ends otherwise than in {file.name}"


@pytest.mark.parametrize("file", REPORTS, ids=lambda file: str(file.name))
def test_an_earlier_report_still_fits_the_schema_and_names_nobody_s_machine(file: Path) -> None:
    text = file.read_text()
    jsonschema.validate(json.loads(text), json.loads((ROOT / "docs/report.schema.json").read_text()))
    assert not re.search(r"/(?:root|work)\b|/tmp/\w", text) and len(text) < 50_000


def test_a_check_newer_than_the_report_is_skipped_and_says_why() -> None:
    (file,) = [file for file in REPORTS if file.name == "v1-check.json"]
    sections, before = json.loads(file.read_text())["facts"], verdicts(json.loads(file.read_text()))
    now = verdicts(replayed(file))
    assert "storage" not in sections and "cache-not-writable" not in before
    assert now["cache-not-writable"][:2] == ("skipped", "storage: not collected")


def test_a_report_with_what_is_not_known_yet_is_read_without_it() -> None:
    report = json.loads(REPORTS[0].read_text())
    report |= {"added": 1}
    report["facts"] |= {"quantum": {"probe": "done", "qubits": 3}}
    report["facts"]["target"]["added"] = ["x"]
    assert verdicts(replayed("-", json.dumps(report))) == verdicts(replayed(REPORTS[0]))


def test_a_report_with_a_word_that_is_not_known_yet_says_who_wrote_it() -> None:
    report = json.loads((ROOT / "tests/reports/v1-launch.json").read_text())
    report["tool"]["version"] = "9.9.9"
    report["facts"]["launch"]["kind"] = "vllm-quantum"
    ran = run("check", "--facts", "-", stdin=json.dumps(report))
    assert ran.returncode == 2 and ran.stderr.count("\n") == 1
    assert "vllm-quantum" in ran.stderr and "(written by cudadoctor 9.9.9, this is 0.1.0)" in ran.stderr
