import shlex
from typing import Any

from msgspec import structs

from cudadoctor.facts import Builds, Environ, UnknownVariable, Variable
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import environ, one, packages, shown
from .launched import launch

ENVS = "/s/vllm/envs.py"


def look(variables: Environ, *unknown: UnknownVariable, version: str = "0.33.0", **more: str) -> Outcome:
    names = {each.name for each in unknown}
    plain = (UnknownVariable(name) for name in variables.variables if name not in names)
    builds = Builds(vllm_envs=ENVS, vllm_unknown=(*unknown, *plain))
    found = packages(vllm=version, **more)
    return judge("vllm-variable-ignored", packages=found, builds=builds, environ=variables)


def test_reports_a_variable_that_older_releases_read() -> None:
    finding = one(look(environ(VLLM_ATTENTION_BACKEND="XFORMERS")), Severity.WARNING)
    assert finding.summary == "VLLM_ATTENTION_BACKEND has no effect: vLLM 0.33.0 does not read it"
    assert "VLLM_ATTENTION_BACKEND: VLLM_ATTENTION_BACKEND=XFORMERS" in shown(finding)
    assert f"{ENVS}: does not list VLLM_ATTENTION_BACKEND; that of vLLM 0.14.0 did" in shown(finding)
    (remedy,) = finding.remedies
    assert remedy.summary == "vllm serve ... --attention-backend XFORMERS"
    assert remedy.instead[0].summary == "unset VLLM_ATTENTION_BACKEND"


def test_a_value_with_a_command_in_it_starts_none() -> None:
    remedy = one(look(environ(VLLM_ATTENTION_BACKEND="x; touch y"))).remedies[0]
    assert shlex.split(remedy.summary)[-2:] == ["--attention-backend", "x; touch y"]


def test_names_the_activation_file_that_sets_it() -> None:
    file = "/opt/env/etc/conda/activate.d/vllm.sh:3"
    assert file in shown(one(look(environ(file, VLLM_FLASH_ATTN_VERSION="2"))))


def test_reports_a_slip_in_a_name() -> None:
    slip = UnknownVariable("VLLM_WORKER_MULTIPROC_METHODS", "VLLM_WORKER_MULTIPROC_METHOD", True)
    finding = one(look(environ(VLLM_WORKER_MULTIPROC_METHODS="spawn"), slip), Severity.WARNING)
    assert (
        finding.remedies[0].summary
        == "VLLM_WORKER_MULTIPROC_METHOD in place of VLLM_WORKER_MULTIPROC_METHODS"
    )


def test_what_may_be_the_user_s_own_is_a_note() -> None:
    near = UnknownVariable("VLLM_LOG_LEVEL", "VLLM_LOGGING_LEVEL")
    finding = one(look(environ(VLLM_LOG_LEVEL="INFO", VLLM_MODEL="Qwen/Qwen3-4B"), near), Severity.NOTE)
    assert finding.summary == "vLLM 0.33.0 does not read VLLM_LOG_LEVEL, VLLM_MODEL"
    assert finding.remedies[0].summary == "VLLM_LOGGING_LEVEL in place of VLLM_LOG_LEVEL"
    assert one(look(environ(VLLM_MODEL="x"))).remedies == ()


def test_asking_for_the_engine_that_is_left_is_no_fault() -> None:
    assert isinstance(look(environ(VLLM_USE_V1="1")), Passed)
    one(look(environ(VLLM_USE_V1="0")), Severity.WARNING)


def test_a_plug_in_of_vllm_s_reads_variables_of_its_own() -> None:
    assert isinstance(look(environ(VLLM_SKIP_WARMUP="1"), vllm_gaudi="0.12.0"), Passed)


def test_a_backend_s_name_has_to_be_right_to_the_letter() -> None:
    for value, better in (
        ("XFORMERS", "unset VLLM_ATTENTION_BACKEND"), ("", "unset VLLM_ATTENTION_BACKEND"),
        ("FLASH_ATTN_VLLM_V1", "VLLM_ATTENTION_BACKEND=FLASH_ATTN"),
        ("flashinfer", "VLLM_ATTENTION_BACKEND=FLASHINFER"),
    ):  # fmt: skip
        finding = one(reads(environ(VLLM_ATTENTION_BACKEND=value)), Severity.ERROR)
        assert f"vLLM 0.12.0 will stop at VLLM_ATTENTION_BACKEND={value}" in finding.summary
        assert finding.remedies[0].summary == better
    for value in ("FLASHINFER", "TREE_ATTN", "OF_A_PLUG_IN"):
        assert isinstance(reads(environ(VLLM_ATTENTION_BACKEND=value)), Passed)
    assert isinstance(reads(environ(VLLM_ATTENTION_BACKEND="FLASH_ATTN_VLLM_V1"), "0.10.2"), Passed)


def reads(variables: Environ, version: str = "0.12.0", **more: Any) -> Outcome:
    """Judge variables that this vLLM reads."""
    return judge(
        "vllm-variable-ignored", packages=packages(vllm=version), builds=Builds(vllm_envs=ENVS),
        environ=variables, **more,
    )  # fmt: skip


def test_what_a_launch_sets_is_left_out_there() -> None:
    held = {"VLLM_ATTENTION_BACKEND": Variable("XFORMERS", "start.sh:4")}
    given = structs.replace(launch(), variables=held)
    finding = one(reads(environ("start.sh:4", VLLM_ATTENTION_BACKEND="XFORMERS"), launch=given))
    assert "VLLM_ATTENTION_BACKEND (start.sh:4): VLLM_ATTENTION_BACKEND=XFORMERS" in shown(finding)
    assert finding.remedies[0].summary == "leave VLLM_ATTENTION_BACKEND out"


def test_a_container_has_a_vllm_and_variables_of_its_own() -> None:
    set_here = environ(VLLM_ATTENTION_BACKEND="XFORMERS")
    contained = structs.replace(launch(), image="vllm/vllm-openai:v0.12.0")
    assert isinstance(reads(set_here, launch=contained), Skipped)
    held = structs.replace(contained, variables={"VLLM_USE_V2": Variable("1", "compose.yaml:4")})
    assert isinstance(reads(set_here, launch=held), Inconclusive)


def test_is_silent_when_healthy_or_absent() -> None:
    assert isinstance(look(environ()), Passed)
    assert isinstance(look(environ(VLLM_ATTENTION_BACKEND="x"), version=""), Skipped)
