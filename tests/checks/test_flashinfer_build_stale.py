import pytest

from cudadoctor.facts import Caches, ConfiguredOp, Environ, Lock, Packages, Toolkits, Unknown
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import environ, no_toolkits, one, packages, shown, toolkit, toolkits
from .cached import OPS, caches, op, target


def look(
    *ops: ConfiguredOp,
    seen: Caches | Unknown | None = None,
    variables: Environ | None = None,
    kits: Toolkits | None = None,
    installed: Packages | None = None,
    active: bool = True,
) -> Outcome:
    return judge(
        "flashinfer-build-stale",
        caches=seen or caches(*ops),
        environ=variables or environ(),
        packages=installed or packages(flashinfer="0.5.3"),
        target=target(active),
        toolkits=kits or toolkits(),
    )


def test_reports_an_operator_with_the_cuda_home_of_before() -> None:
    finding = one(look(op(cuda_home="/opt/env")), Severity.ERROR)
    assert "silu_and_mul" in finding.summary and "CUDA_HOME" in finding.summary
    assert "cuda_home = /opt/env, where /usr/local/cuda would be written now" in shown(finding)
    (remedy,) = finding.remedies
    assert (remedy.fix, remedy.values) == ("jit-caches", {f"{OPS}/silu_and_mul": ""})
    assert remedy.summary == f"mv {OPS}/silu_and_mul {OPS}/silu_and_mul.stale"


@pytest.mark.parametrize(
    ("variable", "value", "before"),
    [
        ("CXX", "g++-12", op()),
        ("CXX", "", op()),
        ("CC", "gcc-12", op()),
        ("CC", "gcc-12", op(ccbin=("gcc-11",))),
        ("FLASHINFER_NVCC", "/opt/nvcc", op()),
        ("FLASHINFER_EXTRA_CFLAGS", "-O1 '-DA=x y'", op(flags=("-O1",))),
        ("FLASHINFER_EXTRA_CUDAFLAGS", "-O1", op()),
        ("FLASHINFER_EXTRA_LDFLAGS", "-L/opt/env/lib", op()),
        ("FLASHINFER_EXTRA_LDFLAGS", '-L/opt/"env', op()),
    ],
)
def test_reports_a_variable_that_came_too_late(variable: str, value: str, before: ConfiguredOp) -> None:
    finding = one(look(before, variables=environ(**{variable: value})))
    assert variable in finding.summary


@pytest.mark.parametrize("before", [op(cxx="g++-12"), op(ccbin=("gcc-12",)), op(nvcc="/opt/nvcc")])
def test_reports_a_variable_that_is_set_no_more(before: ConfiguredOp) -> None:
    assert one(look(before))


def test_many_operators_are_one_finding_and_one_line_to_paste() -> None:
    finding = one(look(*(op(f"op_{number}", "/old") for number in range(8))))
    assert "8 operators" in finding.summary
    assert len(finding.evidence) == 6 and shown(finding).count("op_4/build.ninja") == 1
    assert f"{OPS}: and 3 more" in shown(finding)
    assert finding.remedies[0].summary.startswith(f"for op in {OPS}/op_0 {OPS}/op_1 ")
    assert "\n" not in finding.remedies[0].summary


def test_is_silent_when_the_operator_would_be_written_the_same() -> None:
    same = op(cxx="g++", ccbin=("gcc",), flags=("-O1", "-DA=x y"), ldflags=("-L/x",))
    variables = environ(
        CXX="g++", CC="gcc", FLASHINFER_EXTRA_CFLAGS='-O1 -DA="x y"', FLASHINFER_EXTRA_LDFLAGS="-L/x"
    )
    assert isinstance(look(same, variables=variables), Passed)


def test_is_silent_about_another_spelling_of_the_same_toolkit() -> None:
    assert isinstance(look(op(cuda_home="/usr/local/cuda/")), Passed)
    assert isinstance(look(op(cuda_home="/home/ada/cuda", real="/usr/local/cuda")), Passed)


def test_is_silent_when_everything_is_built() -> None:
    assert isinstance(look(), Passed)


def test_is_silent_about_an_operator_that_is_being_built() -> None:
    held = Lock(f"{OPS}/tmp/silu_and_mul.lock", "advisory", True)
    assert isinstance(look(seen=caches(op(cuda_home="/old"), locks=(held,))), Passed)
    left = Lock(f"{OPS}/tmp/silu_and_mul.lock", "advisory", False)
    assert one(look(seen=caches(op(cuda_home="/old"), locks=(left,))))


def test_is_silent_about_a_flashinfer_that_writes_its_build_files_anew() -> None:
    assert isinstance(look(seen=caches(rewrites=True)), Skipped)


def test_is_silent_when_nothing_compiles() -> None:
    before = op(cuda_home="/old")
    assert isinstance(look(before, installed=packages(flashinfer="")), Skipped)
    assert isinstance(look(before, kits=no_toolkits()), Skipped)
    assert isinstance(look(before, variables=environ(FLASHINFER_DISABLE_JIT="1")), Skipped)


def test_never_asks_for_a_cuda_home_that_is_wrong_itself() -> None:
    broken = toolkits(toolkit("/opt/good"), root="/opt/bad")
    assert isinstance(look(op(cuda_home="/opt/good"), kits=broken), Skipped)


def test_of_an_inactive_environment_only_what_files_tell_counts() -> None:
    by_path = toolkits(rule="two folders up from /usr/local/cuda/bin/nvcc, the first nvcc on PATH")
    before = op(cuda_home="/old", cxx="x86_64-conda-linux-gnu-c++")
    assert isinstance(look(before, kits=by_path, active=False), Passed)
    assert one(look(before, kits=by_path, active=True))
    assert one(look(before, variables=environ(CUDA_HOME="/usr/local/cuda"), active=False))


def test_unknown_is_not_absent() -> None:
    assert isinstance(look(seen=Unknown("timed out")), Inconclusive)
