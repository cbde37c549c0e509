from cudadoctor.facts import Compiler, Compilers, CompilerUse
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import environ, libraries, no_toolkits, one, packages, shown, toolkits

ABSENT = Compiler("c++", "", problem="not found on PATH")
FINE = Compiler("gcc", "/usr/bin/gcc", "gcc", "12.2.0")


def outcome(*found: Compiler, uses: tuple[CompilerUse, ...], driver: bool = False, **more: str) -> Outcome:
    return judge(
        "host-compiler-missing",
        compilers=Compilers({compiler.command: compiler for compiler in found}, uses),
        packages=packages(**more),
        toolkits=toolkits(),
        environ=environ(),
        libraries=libraries(driver=("/drv/libcuda.so.1",) if driver else ()),
    )


LINK = CompilerUse("flashinfer", "link", "c++", "the default, c++")
STUB = CompilerUse("triton", "stub", "c++", "gcc or clang on PATH")


def test_reports_that_there_is_none() -> None:
    finding = one(outcome(ABSENT, uses=(LINK,)), Severity.ERROR)
    assert "FlashInfer" in finding.summary and "not found on PATH" in shown(finding)


def test_reports_a_program_that_is_no_compiler() -> None:
    false = Compiler("/bin/false", "/bin/false", problem="exit status 1 without a word")
    use = CompilerUse("flashinfer", "link", "/bin/false", "CXX")
    assert "no working compiler" in one(outcome(false, uses=(use,))).summary


def test_triton_needs_one_where_a_driver_is() -> None:
    assert one(outcome(ABSENT, uses=(STUB,), driver=True, triton="3.5.0"), Severity.ERROR).summary.startswith(
        "c++"
    )
    assert isinstance(outcome(ABSENT, uses=(STUB,), triton="3.5.0"), Passed)


def test_is_a_warning_where_only_torchs_builder_would_start_it() -> None:
    use = CompilerUse("torch", "link", "c++", "the default, c++")
    one(outcome(ABSENT, uses=(use,), flashinfer=""), Severity.WARNING)


def test_is_silent_when_healthy() -> None:
    use = CompilerUse("flashinfer", "link", "gcc", "CXX")
    assert isinstance(outcome(FINE, uses=(use,)), Passed)


def test_cannot_tell_of_one_that_does_not_answer() -> None:
    slow = Compiler("c++", "/nfs/c++", problem="did not answer in time")
    assert isinstance(outcome(slow, uses=(LINK,)), Inconclusive)


def test_does_not_apply_where_nothing_compiles() -> None:
    ended = judge(
        "host-compiler-missing",
        compilers=Compilers({}, ()),
        packages=packages(),
        toolkits=no_toolkits(),
        environ=environ(),
        libraries=libraries(),
    )
    assert isinstance(ended, Skipped)
