from cudadoctor.facts import BuildTool, BuildTools, Target, Toolkits
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import PREFIX, environ, no_toolkits, one, packages, shown, toolkits, tools


def target(kind: str = "venv") -> Target:
    return Target(
        PREFIX, kind, f"{PREFIX}/bin/python3", "3.12.1", "/usr", (), "/usr/include/python3.12", "x", True
    )


def outcome(seen: BuildTools, kits: Toolkits | None = None, kind: str = "venv", **more: str) -> Outcome:
    return judge(
        "ninja-missing",
        tools=seen,
        target=target(kind),
        packages=packages(**more),
        toolkits=kits or toolkits(),
        environ=environ(),
    )


def test_reports_that_there_is_none() -> None:
    (pip,) = one(outcome(tools()), Severity.ERROR).remedies
    assert (pip.fix, pip.values) == ("pip-install", {"packages": "ninja"})
    assert pip.summary == f"{PREFIX}/bin/python3 -m pip install ninja"
    (conda,) = one(outcome(tools(), kind="conda")).remedies
    assert (conda.fix, conda.values) == ("conda-install", {"prefix": PREFIX, "packages": "ninja"})
    assert conda.summary == f"conda install -p {PREFIX} -c conda-forge ninja"


def test_reports_one_that_is_not_on_path() -> None:
    hidden = BuildTools({"ninja": BuildTool(elsewhere=f"{PREFIX}/bin/ninja")}, "")
    finding = one(outcome(hidden), Severity.ERROR)
    assert "not on PATH" in finding.summary and f'export PATH={PREFIX}/bin:"$PATH"' in shown(finding)


def test_is_a_note_where_only_torchs_builder_would_use_it() -> None:
    one(outcome(tools(), flashinfer=""), Severity.NOTE)


def test_is_silent_when_healthy() -> None:
    assert isinstance(outcome(tools(ninja="/usr/bin/ninja")), Passed)


def test_does_not_apply_where_nothing_compiles() -> None:
    assert isinstance(outcome(tools(), no_toolkits()), Skipped)
