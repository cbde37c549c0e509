from cudadoctor.facts import Compiler, Compilers, CompilerUse
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import environ, no_toolkits, one, packages, shown, toolkits


def outcome(
    version: str, family: str = "gcc", rule: str = "nvcc's default, g++ on PATH", problem: str = "",
    variables: dict[str, str] | None = None, **more: str,
) -> Outcome:  # fmt: skip
    program = Compiler("g++", "/usr/bin/g++", family, version, problem=problem)
    uses = tuple(CompilerUse(name, "device", "g++", rule) for name in ("flashinfer", "torch"))
    return judge(
        "host-compiler-unsupported",
        toolkits=toolkits(),
        compilers=Compilers({"g++": program}, uses),
        environ=environ(**(variables or {})),
        packages=packages(**more),
    )


def test_reports_a_gcc_newer_than_the_toolkits_own_header_accepts() -> None:
    finding = one(outcome("15.1.0"), Severity.ERROR)
    assert "GCC 14 at most" in finding.summary and "crt/host_config.h" in shown(finding)
    assert "NVCC_CCBIN=g++-14" in finding.remedies[0].summary


def test_names_cc_where_flashinfer_hands_it_to_nvcc() -> None:
    finding = one(outcome("15.1.0", rule="CC, which it hands to nvcc as -ccbin"))
    assert "export CC=" in finding.remedies[0].summary


def test_reports_a_clang_that_is_too_new() -> None:
    assert "Clang 19 at most" in one(outcome("21.0.0", "clang")).summary


def test_is_a_warning_where_only_a_build_of_ones_own_would_fail() -> None:
    one(outcome("15.1.0", flashinfer=""), Severity.WARNING)


def test_is_silent_at_the_limit_and_below() -> None:
    for version in ("14.2.0", "9.4.0"):
        assert isinstance(outcome(version), Passed)
    assert isinstance(outcome("19.1.7", "clang"), Passed)


def test_is_silent_where_the_user_allowed_it() -> None:
    allowed = {"NVCC_PREPEND_FLAGS": "-allow-unsupported-compiler"}
    assert isinstance(outcome("15.1.0", variables=allowed), Passed)


def test_cannot_tell_when_the_compiler_did_not_say_what_it_is() -> None:
    ended = outcome("", problem="did not answer in time")
    assert isinstance(ended, Inconclusive) and "did not answer in time" in ended.reason


def test_does_not_apply_where_nothing_compiles() -> None:
    ended = judge(
        "host-compiler-unsupported",
        toolkits=no_toolkits(),
        compilers=Compilers({}, ()),
        environ=environ(),
        packages=packages(),
    )
    assert isinstance(ended, Skipped)
