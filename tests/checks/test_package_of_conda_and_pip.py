import shlex

from msgspec import structs

from cudadoctor.facts import Distribution
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import one as finding_of
from .build import shown
from .installed import PREFIX, all_of, one, target

RECORD = f"{PREFIX}/conda-meta/numpy-1.26.4-py312_0.json"


def outcome(*found: Distribution, kind: str = "conda") -> Outcome:
    return judge("package-of-conda-and-pip", packages=all_of(*found), target=target(kind))


def over(name: str, version: str, record: str = RECORD) -> Distribution:
    return structs.replace(one(name, version), conda=record)


def test_reports_both_owners() -> None:
    finding = finding_of(outcome(over("numpy", "2.0.0")), Severity.NOTE)
    assert finding.summary == "numpy 2.0.0 of pip lies over conda's numpy 1.26.4"
    assert RECORD in shown(finding) and "numpy-2.0.0.dist-info/METADATA" in shown(finding)
    (remedy,) = finding.remedies
    assert remedy.fix == "show" and "pip uninstall -y numpy && conda install" in remedy.summary


def test_a_record_or_a_python_with_blanks_stays_one_word() -> None:
    odd = structs.replace(target("conda"), python="/my env/bin/python3")
    held = all_of(over("numpy", "2.0.0", f"{PREFIX}/conda-meta/numpy-1;touch x-0.json"))
    (remedy,) = finding_of(judge("package-of-conda-and-pip", packages=held, target=odd)).remedies
    words = shlex.split(remedy.summary)
    assert words[0] == "/my env/bin/python3" and words[-1] == "numpy=1;touch x"


def test_is_worse_where_the_files_of_both_are_mixed_or_libraries_clash() -> None:
    mixed = finding_of(outcome(one("numpy", "1.26.4", installer="conda"), over("numpy", "2.0.0")))
    assert mixed.severity is Severity.WARNING and "beside" in mixed.summary
    torch = over("torch", "2.9.0", f"{PREFIX}/conda-meta/pytorch-2.8.0-cuda129_0.json")
    assert "conda's pytorch 2.8.0" in finding_of(outcome(torch), Severity.WARNING).summary


def test_is_silent_when_healthy() -> None:
    assert isinstance(outcome(one("numpy", "2", installer="conda"), one("vllm", "0.12.0")), Passed)


def test_does_not_apply_where_conda_has_no_part() -> None:
    assert isinstance(outcome(over("numpy", "2"), kind="venv"), Skipped)
