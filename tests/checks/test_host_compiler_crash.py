"""Findings about rungs of the ladder that broke, each by what broke it."""

import pytest
from msgspec import structs

from cudadoctor.facts import Compiler, Compilers, CompilerUse, Deep, Environ, Machine, Trial, Unknown
from cudadoctor.findings import Remedy, Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import environ, machine, one, shown

NO_SPACE = "no temporary folder: /full/cudadoctor-x: No space left on device"
SEGFAULT = "g++: internal compiler error: Segmentation fault signal terminated program cc1plus"


def rung(level: str, ended: str, message: str = "", consumer: str = "flashinfer") -> Trial:
    return Trial("ladder", consumer, ("/usr/bin/g++", level, "ladder.cc"), ended, 0, message, level, "g++")


def climb(*ended: str, message: str = SEGFAULT, consumer: str = "flashinfer") -> Deep:
    """Return the trials of a compiler that ends so at -O3, -O2, -O1."""
    levels = ("-O3", "-O2", "-O1")
    rungs = [
        rung(level, end, "" if end == "ok" else message, consumer)
        for level, end in zip(levels, ended, strict=False)
    ]
    return Deep((Trial("link", consumer, ("c++",), "ok"), *rungs))


def compilers() -> Compilers:
    gcc = Compiler("g++", "/usr/bin/g++", "gcc", "12.2.0")
    uses = [CompilerUse(name, "device", "g++", "the default") for name in ("flashinfer", "torch")]
    return Compilers({"g++": gcc}, tuple(uses))


def limited(hard_kib: int | None) -> Machine:
    return structs.replace(machine(), stack_soft_kib=8192, stack_hard_kib=hard_kib)


def look(deep: Deep | Unknown, host: Machine | None = None, variables: Environ | None = None) -> Outcome:
    return judge(
        "host-compiler-crash",
        deep=deep,
        machine=host or limited(None),
        compilers=compilers(),
        environ=variables or environ(),
    )


def test_a_low_hard_stack_limit_is_named_and_lifted() -> None:
    finding = one(look(climb("segfault", "ok"), limited(1024)), Severity.ERROR)
    assert finding.summary == (
        "g++ (gcc 12.2.0), the host compiler of FlashInfer, crashes at -O3: "
        "the hard stack limit is only 1024 KiB; -O2 is the highest level that passes"
    )
    (remedy,) = finding.remedies
    assert (remedy.fix, remedy.values) == ("stack-limit", {"limit": "unlimited"})
    assert remedy.summary.startswith("ulimit -s unlimited")
    assert [other.fix for other in remedy.instead] == ["lower-optimisation"]
    assert SEGFAULT in shown(finding) and "ulimit -Hs: 1024 KiB" in shown(finding)


def test_lowering_is_no_way_out_where_no_level_passes() -> None:
    (remedy,) = one(look(climb("segfault", "segfault", "segfault"), limited(1024))).remedies
    assert (remedy.fix, remedy.instead) == ("stack-limit", ())


@pytest.mark.parametrize("hard_kib", [None, 65536, 1 << 30])
def test_a_segfault_with_stack_to_spare_is_no_matter_of_the_limit(hard_kib: int | None) -> None:
    finding = one(look(climb("segfault", "segfault", "ok"), limited(hard_kib)), Severity.ERROR)
    assert "stack" not in finding.summary
    assert "at -O3 and -O2" in finding.summary and "-O1 is the highest level" in finding.summary
    assert [remedy.fix for remedy in finding.remedies] == ["lower-optimisation"]


def test_only_the_hard_limit_counts() -> None:
    host = structs.replace(machine(), stack_soft_kib=256, stack_hard_kib=None)
    assert "stack" not in one(look(climb("segfault", "ok"), host)).summary


def lowered(deep: Deep, variables: Environ | None = None) -> Remedy:
    (remedy,) = one(look(deep, None, variables)).remedies
    assert remedy.fix == "lower-optimisation" and "CXXFLAGS" not in remedy.summary
    return remedy


def test_flashinfer_is_lowered_by_the_variables_it_reads() -> None:
    remedy = lowered(climb("crash", "ok", message="internal compiler error: in tsubst, at cp/pt.c:15310"))
    assert remedy.values == {"FLASHINFER_EXTRA_CUDAFLAGS": "-O1", "FLASHINFER_EXTRA_CFLAGS": "-O1"}
    assert remedy.summary == "export FLASHINFER_EXTRA_CUDAFLAGS=-O1; export FLASHINFER_EXTRA_CFLAGS=-O1"


def test_torch_is_lowered_by_what_nvcc_reads_last() -> None:
    deep = climb("crash", "ok", message="internal compiler error: in f, at x.c:1", consumer="torch")
    assert one(look(deep), Severity.WARNING).remedies[0].values == {"NVCC_APPEND_FLAGS": "-O1"}


def test_what_a_variable_holds_stays() -> None:
    values = lowered(climb("crash", "ok"), environ(FLASHINFER_EXTRA_CUDAFLAGS="--threads 2")).values
    assert values["FLASHINFER_EXTRA_CUDAFLAGS"] == "--threads 2 -O1"


@pytest.mark.parametrize("name", ["FLASHINFER_EXTRA_CUDAFLAGS", "NVCC_APPEND_FLAGS"])
def test_is_silent_when_the_level_is_lowered_already(name: str) -> None:
    for_cpp = {"FLASHINFER_EXTRA_CFLAGS": "-O1"}
    deep = climb("crash", "crash", "ok")
    assert isinstance(look(deep, None, environ(**for_cpp, **{name: "-g -O1"})), Passed)
    assert one(look(deep, None, environ(**for_cpp, **{name: "-O2"})))


def test_a_compiler_of_both_jobs_must_be_lowered_in_both() -> None:
    deep = climb("crash", "ok")
    for name in ("FLASHINFER_EXTRA_CUDAFLAGS", "NVCC_APPEND_FLAGS", "FLASHINFER_EXTRA_CFLAGS"):
        assert one(look(deep, None, environ(**{name: "-O1"}))), name


def test_a_compiler_of_nvcc_alone_must_be_lowered_there() -> None:
    other = Trial("ladder", "flashinfer", ("/usr/bin/clang++",), "ok", 0, "", "-O3", "clang++")
    deep = Deep((*climb("crash", "ok").trials, other))
    assert isinstance(look(deep, None, environ(FLASHINFER_EXTRA_CUDAFLAGS="-O1")), Passed)


def test_variables_that_no_builder_reads_lower_nothing() -> None:
    assert one(look(climb("crash", "ok"), None, environ(CXXFLAGS="-O1", NVCC_PREPEND_FLAGS="-O1")))


def test_where_no_level_passes_lowering_is_not_offered() -> None:
    finding = one(look(climb("crash", "crash", "crash", message="internal compiler error: in f, at x.c:1")))
    assert "at -O3 and -O2 and -O1" in finding.summary and "no level passes" in finding.summary
    assert finding.remedies == ()


@pytest.mark.parametrize(("ended", "verb"), [("killed", "is killed"), ("memory", "runs out of memory")])
def test_memory_is_named_with_what_is_left_of_it(ended: str, verb: str) -> None:
    finding = one(look(climb(ended, ended, ended), machine(available_gib=0.5)), Severity.ERROR)
    assert f"{verb} at -O3 and -O2 and -O1 with 0.5 GiB of memory available" in finding.summary
    assert "MAX_JOBS=1" in finding.remedies[0].summary and finding.remedies[0].fix == "max-jobs"
    assert "512 MiB available" in shown(finding)


def test_with_plenty_of_memory_it_is_a_limit() -> None:
    finding = one(look(climb("killed", "ok"), machine(available_gib=48)))
    assert "48.0 GiB of memory available: a limit on the process or its container" in finding.summary


def test_a_full_disk_is_about_tmpdir() -> None:
    finding = one(
        look(climb("disk", "disk", "disk", message="No space left on device"), None, environ(TMPDIR="/full"))
    )
    assert "TMPDIR: /full" in shown(finding) and "export TMPDIR" in finding.remedies[0].summary


def test_a_disk_too_full_to_begin_is_one_finding() -> None:
    trials = tuple(
        structs.replace(trial, ended="not-run", message=NO_SPACE) for trial in climb("ok", "ok").trials
    )
    finding = one(look(Deep(trials), None, environ(TMPDIR="/full")), Severity.ERROR)
    assert NO_SPACE in shown(finding) and "export TMPDIR" in finding.remedies[0].summary


def test_a_compiler_that_does_not_end_is_a_warning() -> None:
    finding = one(look(climb("timeout", "ok", message="did not end within 120 s")), Severity.WARNING)
    assert "does not come to an end at -O3; -O2" in finding.summary


def test_each_compiler_has_its_own_finding() -> None:
    second = structs.replace(rung("-O3", "killed", "Killed"), compiler="clang++")
    outcome = look(Deep((*climb("segfault", "ok").trials, second)), limited(1024))
    assert [finding.summary.partition(",")[0] for finding in outcome.findings] == [
        "g++ (gcc 12.2.0)",
        "clang++",
    ]


def test_is_silent_when_the_compiler_holds() -> None:
    assert isinstance(look(climb("ok")), Passed)
    assert isinstance(look(climb("error", message="error: unrecognised -std")), Passed)


def test_is_skipped_when_nothing_compiles_or_nobody_asked() -> None:
    outcome = look(Deep(()))
    assert isinstance(outcome, Skipped) and outcome.reason == "nothing installed here compiles CUDA code"
    assert isinstance(look(Unknown("runs only with --deep", expected=True)), Skipped)


def test_a_compiler_that_was_not_run_leaves_it_open() -> None:
    outcome = look(climb("not-run", message="g++-99: not found on PATH"))
    assert isinstance(outcome, Inconclusive) and outcome.reason == "g++-99: not found on PATH"
    assert isinstance(look(Unknown("the probe failed")), Inconclusive)
