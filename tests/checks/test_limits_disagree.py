from __future__ import annotations

import pytest

from cudadoctor.facts import Launch
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Outcome, Passed, Skipped
from cudadoctor.testing import judge
from tests.launch.read import composed, typed

from .build import one, shown

COMPOSE = """services:
  vllm:
    image: vllm/vllm-openai:v0.12.0
    ports: ["8080:8000"]
    command: --model Qwen/Qwen3-8B --max-model-len {length} --served-model-name qwen --port 8000
"""


def beside(dotenv: str, length: str = "12288") -> Launch:
    return composed(COMPOSE.format(length=length), {".env": dotenv})


def look(launch: Launch) -> Outcome:
    return judge("limits-disagree", launch=launch)


def test_a_client_that_may_send_more_than_the_server_takes() -> None:
    finding = one(look(beside("# client\nLLM_MAX_MODEL_LEN=32768\n")), Severity.WARNING)
    assert finding.summary.startswith("LLM_MAX_MODEL_LEN is 32768, and --max-model-len 12288: a client")
    assert "refused what is longer" in finding.summary
    assert "/home/ada/compose.yaml:5: --max-model-len 12288" in shown(finding)
    assert "/home/ada/.env:2: LLM_MAX_MODEL_LEN=32768" in shown(finding)
    assert finding.remedies[0].summary == "LLM_MAX_MODEL_LEN=12288"
    assert finding.remedies[0].instead[0].summary == "--max-model-len 32768"


def test_a_client_that_sends_less_leaves_room_unused() -> None:
    assert "leaves part of the length unused" in one(look(beside("MAX_MODEL_LEN=4096"))).summary


@pytest.mark.parametrize(
    ("dotenv", "length"),
    [
        ("LLM_MAX_MODEL_LEN=12288", "12288"),
        ("LLM_MAX_MODEL_LEN=32768", "32K"),
        ("LLM_MAX_MODEL_LEN=32k", "32000"),
        ("LLM_MAX_MODEL_LEN=32768", "${LLM_MAX_MODEL_LEN}"),
        ("LLM_MAX_MODEL_LEN=auto", "12288"),
        ("LLM_MAX_MODEL_LEN=", "12288"),
        ("VLLM_ALLOW_LONG_MAX_MODEL_LEN=1", "12288"),
        ("EMBEDDING_MAX_MODEL_LEN=512\nRERANKER_MAX_MODEL_LEN=512", "12288"),
        ("A_MAX_MODEL_LEN=12288\nB_MAX_MODEL_LEN=512", "12288"),
        ("LLM_OUTPUT_RESERVE=3000\nLLM_SAFETY_MARGIN=128", "12288"),
        ("SERVED_MODEL_NAME=qwen\nLLM_MODEL=qwen\nVLLM_MODEL=Qwen/Qwen3-8B", "12288"),
        ("LLM_MODEL=openai/qwen\nVLLM_MODEL=hosted_vllm/Qwen/Qwen3-8B", "12288"),
        ("LLM_PORT=8080\nVLLM_SERVER_LLM_PORT=8000\nVLLM_PORT=9000\nPORT=3000", "12288"),
        ("MODEL=gpt-5\nOPENAI_MODEL=gpt-5", "12288"),
    ],
)
def test_is_silent_when_both_agree_or_it_is_something_else(dotenv: str, length: str) -> None:
    assert isinstance(look(beside(dotenv, length)), Passed)


@pytest.mark.parametrize(
    ("dotenv", "says"),
    [
        ("LLM_MODEL=Qwen/Qwen3-14B", "LLM_MODEL is Qwen/Qwen3-14B, and the server answers to qwen"),
        ("SERVED_MODEL_NAME=other", "SERVED_MODEL_NAME is other, and --served-model-name qwen"),
        ("LLM_PORT=9000", "LLM_PORT is 9000, and --port 8000: nobody listens at the variable's port"),
    ],
)
def test_a_name_or_a_port_that_the_server_has_not(dotenv: str, says: str) -> None:
    assert one(look(beside(dotenv)), Severity.WARNING).summary.startswith(says)


def test_a_variable_of_the_command_itself_counts_as_well() -> None:
    launch = typed("env VLLM_GPU_MEMORY_UTILIZATION=0.9 vllm serve m --gpu-memory-utilization 0.80")
    finding = one(look(launch), Severity.WARNING)
    assert finding.summary.endswith("the server goes by the option alone")
    equal = typed("env VLLM_GPU_MEMORY_UTILIZATION=0.8 vllm serve m --gpu-memory-utilization 0.80")
    assert isinstance(look(equal), Passed)


def test_is_silent_where_the_option_is_not_given() -> None:
    assert isinstance(look(typed("LLM_MAX_MODEL_LEN=4096 vllm serve m")), Passed)


def test_is_silent_for_other_commands() -> None:
    assert isinstance(look(typed("LLM_MAX_MODEL_LEN=4096 sleep 1")), Skipped)
