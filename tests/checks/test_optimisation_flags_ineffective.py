"""Optimisation levels are set where they count."""

import pytest

from cudadoctor.facts import Unknown
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import environ, no_toolkits, one, packages, shown, toolkits


def look(**variables: str) -> Outcome:
    return judge(
        "optimisation-flags-ineffective",
        environ=environ(**variables),
        packages=packages(),
        toolkits=toolkits(),
    )


def test_reports_what_the_recipe_of_a_crashing_compiler_sets() -> None:
    finding = one(look(CXXFLAGS="-O1", NVCC_PREPEND_FLAGS="-O1"), Severity.WARNING)
    said = "-O1 in CXXFLAGS, -O1 in NVCC_PREPEND_FLAGS"
    assert finding.summary == f"{said} has no effect on FlashInfer's builds: they use -O3"
    assert "CXXFLAGS=-O1: FlashInfer does not read it" in shown(finding)
    both = "export FLASHINFER_EXTRA_CUDAFLAGS=-O1; export FLASHINFER_EXTRA_CFLAGS=-O1"
    assert finding.remedies[0].summary == both
    assert one(look(NVCC_PREPEND_FLAGS="-O1")).remedies[0].summary == both.partition(";")[0]


@pytest.mark.parametrize("name", ["CXXFLAGS", "CFLAGS", "CPPFLAGS"])
@pytest.mark.parametrize("flags", ["-O0", "-O1", "-Os", "-Og", "-O", "-O2 -g -O1"])
def test_reports_a_lowered_level_for_the_host_compiler(name: str, flags: str) -> None:
    assert one(look(**{name: flags}))


@pytest.mark.parametrize(
    "flags",
    ["-O1", "-O 1", "--optimize=1", "--optimize 1", "-Xcompiler -O1", "-Xcompiler=-Wall,-O1",
     "--compiler-options '-g -O3,-O1'", '-Xcompiler "-O1"'],
)  # fmt: skip
def test_reports_a_lowered_level_before_flashinfers_own(flags: str) -> None:
    assert one(look(NVCC_PREPEND_FLAGS=flags))


@pytest.mark.parametrize("name", ["NVCC_APPEND_FLAGS", "FLASHINFER_EXTRA_CUDAFLAGS"])
def test_a_level_that_is_handed_on_loses_wherever_it_stands(name: str) -> None:
    finding = one(look(**{name: "-Xcompiler -O1"}))
    assert "nvcc puts its own -O3 after it" in shown(finding)


@pytest.mark.parametrize(
    "flags", ["-march=nocona -O2 -pipe", "-O3", "-Ofast", "-O1 -O2", "-g", "", "-Wl,-O1"]
)
def test_is_silent_when_nothing_was_lowered(flags: str) -> None:
    assert isinstance(look(CXXFLAGS=flags, CFLAGS=flags, CPPFLAGS=flags), Passed)


@pytest.mark.parametrize(
    "flags", ["-ccbin=g++", "-O3", "-Xptxas -O1", "-Xptxas=-O1", "-Xlinker -O1", "-Xcompiler -O2"]
)
def test_is_silent_about_levels_of_other_programs(flags: str) -> None:
    assert isinstance(look(NVCC_PREPEND_FLAGS=flags), Passed)


@pytest.mark.parametrize(
    "effective", [{"NVCC_APPEND_FLAGS": "-O1"}, {"FLASHINFER_EXTRA_CUDAFLAGS": "-lineinfo -O1"},
                  {"FLASHINFER_JIT_DEBUG": "1"}, {"FLASHINFER_JIT_VERBOSE": "1"}],
)  # fmt: skip
def test_is_silent_when_a_variable_that_counts_is_set_too(effective: dict[str, str]) -> None:
    assert isinstance(look(CXXFLAGS="-O1", NVCC_PREPEND_FLAGS="-O1", **effective), Passed)


def test_talking_much_is_no_debug_build_where_that_is_refused() -> None:
    assert one(look(CXXFLAGS="-O1", FLASHINFER_JIT_VERBOSE="1", FLASHINFER_JIT_DEBUG="0"))


def test_a_level_for_cpp_files_answers_cxxflags_but_not_nvccs_flags() -> None:
    assert isinstance(look(CXXFLAGS="-O1", FLASHINFER_EXTRA_CFLAGS="-O1"), Passed)
    finding = one(look(CXXFLAGS="-O1", NVCC_PREPEND_FLAGS="-O1", FLASHINFER_EXTRA_CFLAGS="-O1"))
    assert finding.summary.startswith("-O1 in NVCC_PREPEND_FLAGS has")


def test_a_variable_that_counts_without_a_level_does_not_answer() -> None:
    finding = one(look(CXXFLAGS="-O1", FLASHINFER_EXTRA_CUDAFLAGS="-lineinfo"))
    (remedy,) = finding.remedies
    assert remedy.summary.startswith("export FLASHINFER_EXTRA_CUDAFLAGS='-lineinfo -O1'; ")
    assert (remedy.fix, remedy.values) == (
        "lower-optimisation",
        {"FLASHINFER_EXTRA_CUDAFLAGS": "-lineinfo -O1", "FLASHINFER_EXTRA_CFLAGS": "-O1"},
    )


def test_the_remedy_speaks_nvccs_numbers() -> None:
    assert one(look(CXXFLAGS="-Og")).remedies[0].summary.endswith("=-O1")
    assert one(look(CXXFLAGS="-O0")).remedies[0].summary.endswith("=-O0")


def test_an_old_flashinfer_reads_nvccs_variable_only() -> None:
    outcome = judge(
        "optimisation-flags-ineffective",
        environ=environ(CXXFLAGS="-O1"),
        packages=packages(flashinfer="0.3.1"),
        toolkits=toolkits(),
    )
    assert one(outcome).remedies[0].summary == "export NVCC_APPEND_FLAGS=-O1"


def test_names_the_activation_file_that_sets_it() -> None:
    outcome = judge(
        "optimisation-flags-ineffective",
        environ=environ("/opt/env/etc/conda/activate.d/mine.sh:3", CXXFLAGS="-O1"),
        packages=packages(),
        toolkits=toolkits(),
    )
    assert "CXXFLAGS (/opt/env/etc/conda/activate.d/mine.sh:3): CXXFLAGS=-O1" in shown(one(outcome))


def test_quotes_that_do_not_match_are_split_at_blanks() -> None:
    assert one(look(CXXFLAGS="-DNAME='x -O1"))


def test_is_silent_without_a_flashinfer_that_compiles() -> None:
    around = environ(CXXFLAGS="-O1")
    for installed, found in ((packages(flashinfer=""), toolkits()), (packages(), no_toolkits())):
        outcome = judge("optimisation-flags-ineffective", environ=around, packages=installed, toolkits=found)
        assert isinstance(outcome, Skipped)


def test_unknown_is_not_absent() -> None:
    outcome = judge(
        "optimisation-flags-ineffective",
        environ=environ(CXXFLAGS="-O1"),
        packages=Unknown("timed out"),
        toolkits=toolkits(),
    )
    assert isinstance(outcome, Inconclusive)
