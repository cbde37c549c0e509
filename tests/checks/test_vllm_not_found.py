from msgspec import structs

from cudadoctor.facts import Launch, Resources, Target, Unknown
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped
from cudadoctor.testing import judge

from . import installed
from .build import environ, one
from .launched import launch

NAME = "vllm-not-found"
TARGET = Target("/v", "venv", "/v/bin/python3", "3.12", "/usr", ("/v/lib",), "", "the command", True)
VLLM = installed.all_of(installed.one("vllm", "0.12.0"))
NONE = installed.all_of(installed.one("torch", "2.9.0"))
MODULE = structs.replace(
    launch("vllm-api-server"), argv=("python3", "-m", "vllm.entrypoints.openai.api_server")
)


def judged(given: Launch, program: str | None, packages: object = VLLM, **variables: str) -> Outcome:
    seen = Resources(program=program)
    return judge(
        NAME, launch=given, resources=seen, packages=packages, target=TARGET, environ=environ(**variables)
    )


def test_reports_a_program_that_is_nowhere() -> None:
    finding = one(judged(launch(), ""), Severity.ERROR)
    assert finding.summary == 'will stop with "vllm: command not found"'


def test_reports_a_python_without_the_module() -> None:
    finding = one(judged(MODULE, "/v/bin/python3", NONE), Severity.ERROR)
    assert "No module named vllm" in finding.summary


def test_is_silent_when_it_is_there() -> None:
    assert isinstance(judged(launch(), "/v/bin/vllm"), Passed)
    assert isinstance(judged(MODULE, "/v/bin/python3"), Passed)


def test_a_program_of_that_name_may_be_anything() -> None:
    assert isinstance(judged(launch(), "/usr/local/bin/vllm", NONE), Passed)


def test_another_python_or_pythonpath_may_have_it() -> None:
    assert isinstance(judged(MODULE, "/usr/bin/python3", NONE), Passed)
    assert isinstance(judged(MODULE, "/v/bin/python3", NONE, PYTHONPATH="/src/vllm"), Passed)


def test_what_is_not_known_or_not_meant_is_not_judged() -> None:
    assert isinstance(judged(launch(), None), Inconclusive)
    assert isinstance(judged(launch("other"), ""), Skipped)
    assert isinstance(judged(structs.replace(launch(), image="vllm/vllm-openai"), ""), Skipped)
    elsewhere = Unknown("the launch is planned for another machine (--gpu)", expected=True)
    outcome = judge(
        NAME, launch=launch(), resources=elsewhere, packages=NONE, target=TARGET, environ=environ()
    )
    assert isinstance(outcome, Skipped)
