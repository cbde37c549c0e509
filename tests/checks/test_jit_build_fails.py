"""Findings about real commands that failed."""

import pytest

from cudadoctor.facts import Deep, Trial, Unknown
from cudadoctor.findings import Evidence, Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import one

NOT_FOUND = "/usr/bin/ld: cannot find -lcudart: No such file or directory"
COMMAND = ("/usr/bin/c++", "x.o", "-shared", "-L/a b/lib64", "-lcudart")


def trial(name: str, ended: str = "ok", message: str = "", consumer: str = "flashinfer") -> Trial:
    return Trial(name, consumer, COMMAND, ended, 1, message)


def look(*trials: Trial) -> Outcome:
    return judge("jit-build-fails", deep=Deep(trials))


def test_reports_a_failed_link_with_its_command_and_what_ld_said() -> None:
    finding = one(look(trial("compile"), trial("link", "error", NOT_FOUND), trial("nvcc")), Severity.ERROR)
    assert finding.summary == "FlashInfer: linking fails: cannot find -lcudart: No such file or directory"
    command = "/usr/bin/c++ x.o -shared '-L/a b/lib64' -lcudart"
    assert finding.evidence == (Evidence(command, NOT_FOUND),)
    assert finding.remedies == ()


def test_every_failed_trial_is_a_finding() -> None:
    message = "compile.cc:3:10: fatal error: cuda_runtime_api.h: No such file or directory"
    outcome = look(
        trial("compile", "error", message),
        trial("link", "error", NOT_FOUND),
        trial("link", "error", NOT_FOUND, consumer="torch"),
        trial("nvcc", "killed", "nvcc error   : 'cicc' died due to signal 9 (Kill signal)"),
    )
    assert [finding.summary for finding in outcome.findings] == [
        "FlashInfer: compiling a C++ file with a CUDA header fails: "
        "cuda_runtime_api.h: No such file or directory",
        "FlashInfer: linking fails: cannot find -lcudart: No such file or directory",
        "torch's extension builder: linking fails: cannot find -lcudart: No such file or directory",
        "FlashInfer: compiling a kernel with nvcc is killed: "
        "nvcc error   : 'cicc' died due to signal 9 (Kill signal)",
    ]


def test_a_build_that_a_user_would_start_is_a_warning() -> None:
    assert one(look(trial("link", "error", NOT_FOUND, consumer="torch")), Severity.WARNING)


@pytest.mark.parametrize("ended", ["segfault", "crash", "killed", "memory", "disk", "timeout"])
def test_every_way_to_fail_is_reported(ended: str) -> None:
    assert one(look(trial("compile", ended, "why")), Severity.ERROR).summary.endswith(": why")


def test_is_silent_when_all_pass() -> None:
    assert isinstance(look(trial("compile"), trial("link"), trial("nvcc")), Passed)


def test_the_ladder_is_another_check() -> None:
    assert isinstance(look(trial("compile"), trial("ladder", "segfault", "internal compiler error")), Passed)


def test_is_skipped_when_nothing_compiles_or_nobody_asked() -> None:
    outcome = look()
    assert isinstance(outcome, Skipped) and outcome.reason == "nothing installed here compiles CUDA code"
    assert isinstance(judge("jit-build-fails", deep=Unknown("runs only with --deep", expected=True)), Skipped)


def test_what_was_not_run_leaves_it_open_unless_something_failed() -> None:
    missing = trial("nvcc", "not-run", "/opt/cuda/bin/nvcc: no such program")
    outcome = look(trial("compile"), missing)
    assert isinstance(outcome, Inconclusive)
    assert outcome.reason == "nvcc: /opt/cuda/bin/nvcc: no such program"
    assert one(look(trial("link", "error", NOT_FOUND), missing))
