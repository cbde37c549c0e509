from typing import Any

import pytest
from msgspec import structs

from cudadoctor.facts import Card, Given, Refused, Unknown
from cudadoctor.findings import Finding, Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped
from tests.simulate.models import DEEPSEEK_V3, QWEN25_7B, QWEN25_32B, Config

from . import installed
from .build import one, shown
from .launched import GIB, RTX_3090, judged, launch, model

NAME = "parallel-size-impossible"
EIGHT = structs.replace(RTX_3090, count=8)
HERE = structs.replace(EIGHT, source="NVML", count=2)


def ended(
    card: Card | Unknown = EIGHT, config: Config | None = QWEN25_32B, version: str = "0.12.0", **given: Any
) -> Outcome:
    packages = installed.all_of(installed.one("vllm", version))
    return judged(NAME, launch(**given), model(config), card, packages=packages)


def found(*args: Any, **given: Any) -> Finding:
    return one(ended(*args, **given), Severity.ERROR)


def test_reports_heads_that_the_size_does_not_divide() -> None:
    finding = found(config=QWEN25_7B, tensor_parallel_size=8)
    assert finding.summary == (
        'vLLM 0.12.0 will stop with "Total number of attention heads (28) must be divisible by tensor '
        'parallel size (8)."'
    )
    assert finding.remedies[0].summary == (
        "--tensor-parallel-size 1 or 2 or 4: what the heads and the GPUs allow"
    )


def test_reports_heads_of_keys_that_are_no_multiple_and_no_divisor() -> None:
    finding = found(tensor_parallel_size=5)
    assert finding.summary == 'vLLM 0.12.0 will stop with "8 is not divisible by 5"'
    assert "40 attention heads, 8 of keys and values" in shown(finding)


def test_heads_are_judged_where_no_gpu_is_known() -> None:
    assert "attention heads" in found(Unknown("no GPU is visible here"), tensor_parallel_size=3).summary


def test_reports_more_ranks_than_gpus() -> None:
    assert found(RTX_3090, tensor_parallel_size=4).summary == (
        "4 GPUs are asked for, and 1 is named (see --count)"
    )
    both = found(HERE, tensor_parallel_size=2, pipeline_parallel_size=2)
    assert both.summary == "4 GPUs are asked for, and 2 are visible"
    assert "2 x rtx-3090" in shown(both)
    assert found(HERE, data_parallel_size=4).summary.startswith("4 GPUs")


def test_gpus_are_counted_where_the_model_is_not_known() -> None:
    assert found(HERE, None, tensor_parallel_size=4).summary.startswith("4 GPUs")


@pytest.mark.parametrize("size", [0, -1])
def test_reports_a_size_that_is_none(size: int) -> None:
    assert f"{size} is no number of ranks" in found(tensor_parallel_size=size).summary


@pytest.mark.parametrize(
    "elsewhere",
    [{"nnodes": 2}, {"distributed_executor_backend": "ray"}, {"data_parallel_size_local": 1},
     {"distributed_executor_backend": "external_launcher"}],
)  # fmt: skip
def test_ranks_on_other_machines_are_not_counted(elsewhere: dict[str, Any]) -> None:
    assert isinstance(ended(HERE, tensor_parallel_size=8, **elsewhere), Passed)


def test_before_0_12_a_ray_cluster_may_have_them() -> None:
    assert isinstance(ended(HERE, version="0.10.2", tensor_parallel_size=8), Inconclusive)
    assert isinstance(ended(HERE, version="0.10.2", tensor_parallel_size=2), Passed)


def test_a_size_that_only_the_run_tells_is_not_guessed() -> None:
    given = launch(tensor_parallel_size=2)
    later = {**given.options, "--tensor-parallel-size": Given((), "serve.sh:3", "-tp", "$(nproc)")}
    assert isinstance(judged(NAME, structs.replace(given, options=later), card=HERE), Inconclusive)


def test_what_vllm_refuses_by_itself_is_another_check_s() -> None:
    refused = Refused("--tensor-parallel-size", "-tp", "command line", "range", "0")
    given = structs.replace(launch(tensor_parallel_size=0), refused=(refused,))
    assert isinstance(judged(NAME, given, card=HERE), Passed)


@pytest.mark.parametrize("config", [QWEN25_32B, DEEPSEEK_V3])
def test_is_silent_when_the_sizes_are_right(config: Config) -> None:
    assert isinstance(ended(config=config, tensor_parallel_size=8), Passed)
    assert isinstance(ended(config=config), Passed)


def test_is_silent_where_no_launch_was_given() -> None:
    assert isinstance(judged(NAME, Unknown("no launch was given", expected=True)), Skipped)
    assert isinstance(judged(NAME, launch("other")), Skipped)


@pytest.mark.parametrize("check", ["kv-cache-does-not-fit", "weights-do-not-fit", "gpu-memory-not-free"])
def test_nothing_is_planned_for_sizes_that_cannot_be(check: str) -> None:
    outcome = judged(check, launch(tensor_parallel_size=3), card=EIGHT)
    assert isinstance(outcome, Inconclusive) and "attention heads" in outcome.reason


def test_sizes_that_are_advised_are_those_that_vllm_takes() -> None:
    small = Card("", 16 * GIB, "8.6", count=8, source="--gpu-memory")
    finding = one(
        judged(
            "weights-do-not-fit",
            launch(max_model_len=2048, max_num_seqs=8),
            model(method="", gib=61.0),
            small,
        )
    )
    told = [each.values.get("options", "") for each in finding.remedies]
    assert told and "--tensor-parallel-size 8" in told[0], "5 divides the heads, and not those of keys"
