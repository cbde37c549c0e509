from cudadoctor.facts import BuildTools, Target
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import PREFIX, libraries, one, packages

HEADER = "/usr/include/python3.12/Python.h"


def outcome(
    header: str = "", driver: tuple[str, ...] = (), triton: str = "3.5.0", version: str = "3.12.1"
) -> Outcome:
    target = Target(
        PREFIX, "venv", f"{PREFIX}/bin/python3", version, "/usr", (), "/usr/include/python3.12", "x", True
    )
    return judge(
        "python-headers-missing",
        tools=BuildTools({}, header, (HEADER,)),
        target=target,
        packages=packages(triton=triton),
        libraries=libraries(driver=driver),
    )


def test_reports_a_python_without_headers_where_a_driver_is() -> None:
    finding = one(outcome(driver=("/usr/lib/libcuda.so.1",)), Severity.ERROR)
    assert finding.evidence[0].source == HEADER and "python3.12-dev" in finding.remedies[0].summary


def test_is_a_warning_without_a_driver() -> None:
    one(outcome(), Severity.WARNING)


def test_is_silent_when_healthy() -> None:
    assert isinstance(outcome(HEADER), Passed)


def test_cannot_tell_behind_a_folder_that_this_user_may_not_enter() -> None:
    target = Target(PREFIX, "venv", "", "3.12.1", "/root/py", (), "/root/py/include", "x", True)
    tools = BuildTools({}, "", ("/root/py/include/Python.h",), "/root")
    ended = judge(
        "python-headers-missing",
        tools=tools, target=target, packages=packages(triton="3.5.0"), libraries=libraries(driver=()),
    )  # fmt: skip
    assert isinstance(ended, Inconclusive) and ended.reason.endswith("may not enter /root")


def test_does_not_apply_without_triton() -> None:
    assert isinstance(outcome(triton=""), Skipped)


def test_cannot_tell_where_the_headers_belong_without_a_version() -> None:
    assert isinstance(outcome(version=""), Inconclusive)
