"""The plan of a report: there is one where enough is known, and nothing takes the report down."""

import pytest
from msgspec import structs

from cudadoctor import planning, tasks
from cudadoctor.declare import CannotTell
from cudadoctor.facts import Card, Environ, Facts, Unknown, Variable
from tests.checks import gpus, installed
from tests.checks.launched import GIB, RTX_3090, launch, model
from tests.simulate.models import QWEN25_32B

FITS = Facts(
    launch=launch(max_model_len=2048, gpu_memory_utilization=0.95), model=model(), card=RTX_3090,
    packages=installed.all_of(installed.one("vllm", "0.12.0")), machine=gpus.host(),
    environ=Environ({}, "the current variables"),
)  # fmt: skip


def test_a_launch_that_fits_has_a_plan_with_profiles() -> None:
    plan = planning.memory_plan(FITS)
    assert plan is not None and plan.outcome == "fits" and plan.profiles


def test_variables_of_the_shell_count() -> None:
    counted = {"VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS": Variable("1", "environment")}
    plan = planning.memory_plan(structs.replace(FITS, environ=Environ(counted, "the current variables")))
    assert plan is not None and "CUDA graphs" in [part.name for part in plan.overhead]


@pytest.mark.parametrize(
    "broken",
    [{"head_dim": 0, "hidden_size": 7}, {"num_key_value_heads": 0}, {"num_attention_heads": 0, "head_dim": 1},
     {"vocab_size": 0}, {"num_hidden_layers": 0}, {"sliding_window": 1, "use_sliding_window": True}],
)  # fmt: skip
def test_numbers_of_no_model_never_raise(broken: dict[str, int]) -> None:
    planning.memory_plan(structs.replace(FITS, model=model({**QWEN25_32B, **broken})))


def test_a_planner_that_fails_takes_no_report_down(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(planning, "described", fails)
    assert planning.memory_plan(FITS) is None


@pytest.mark.parametrize("section", ["launch", "model", "card", "packages"])
def test_what_is_not_known_has_no_plan(section: str) -> None:
    unknown = Unknown("it could not be read")
    assert planning.memory_plan(structs.replace(FITS, **{section: unknown})) is None


def test_without_variables_or_a_host_there_is_a_plan() -> None:
    bare = structs.replace(FITS, environ=Unknown("not read"), machine=Unknown("not read"))
    plan = planning.memory_plan(bare)
    assert plan is not None and plan.profiles == ()


def test_cards_are_counted_over_stages_and_replicas() -> None:
    small = Card("rtx-3060", 16 * GIB, "8.6", source="--gpu-memory", count=2)
    task = tasks.task_of(
        launch(max_model_len=2048, pipeline_parallel_size=2), model(method="", gib=61.0), small,
        installed.all_of(installed.one("vllm", "0.12.0")),
    )  # fmt: skip
    told = planning.advice_of(
        task, launch(), model(method="", gib=61.0), small, installed.all_of(), gpus.host()
    )
    (remedy,) = planning.remedies_of(structs.replace(told, advice=(), needs=1.0), task, launch(), small)
    assert remedy.summary.endswith(" or 8 x RTX 3060 (--tensor-parallel-size 4)")


# --- what is planned otherwise ------------------------------------------------------------------------------


def test_a_model_with_scaled_rope_is_as_long_as_vllm_makes_it() -> None:
    scaled = {**QWEN25_32B, "rope_scaling": {"rope_type": "yarn", "factor": 4.0, **_ORIGINAL}}
    packages = installed.all_of(installed.one("vllm", "0.12.0"))
    task = tasks.task_of(launch(), model(scaled), RTX_3090, packages)
    assert task.shape.positions == 131072


_ORIGINAL = {"original_max_position_embeddings": 32768}


@pytest.mark.parametrize("name", ["XLMRobertaModel", "Qwen2ForSequenceClassification", "Qwen3Model"])
def test_a_model_that_gives_vectors_is_not_planned_as_one_that_generates(name: str) -> None:
    packages = installed.all_of(installed.one("vllm", "0.12.0"))
    held = structs.replace(model(), architectures=(name,))
    with pytest.raises(CannotTell, match="pooling"):
        tasks.task_of(launch(), held, RTX_3090, packages)
    tasks.task_of(launch(runner="generate"), held, RTX_3090, packages)


@pytest.mark.parametrize("options", [{"runner": "pooling"}, {"task": "embed"}])
def test_nor_is_one_that_is_asked_for_vectors(options: dict[str, str]) -> None:
    packages = installed.all_of(installed.one("vllm", "0.12.0"))
    with pytest.raises(CannotTell, match="pooling"):
        tasks.task_of(launch(**options), model(), RTX_3090, packages)


@pytest.mark.parametrize("name", ["Qwen2ForCausalLM", "GPT2LMHeadModel", "InternVLChatModel", "ChatGLMModel"])
def test_whatever_generates_is_planned(name: str) -> None:
    packages = installed.all_of(installed.one("vllm", "0.12.0"))
    tasks.task_of(launch(), structs.replace(model(), architectures=(name,)), RTX_3090, packages)
