from typing import Any

from msgspec import structs

from cudadoctor.facts import Card, Model, Quantization, Unknown
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped
from cudadoctor.testing import judge
from tests.probes.checkpoints import AWQ, FP8
from tests.simulate.test_quantization import GPTQ, METHODS

from .build import one, shown
from .launched import RTX_3090, launch, model

NAME = "slower-kernel-chosen"


def holds(config: dict[str, Any] | None) -> Model:
    if config is None:
        return structs.replace(model(method=""), methods=METHODS)
    stated = Quantization(config["quant_method"], "config.json: quantization_config", config)
    return structs.replace(model(), quantization=stated, methods=METHODS)


def look(asked: str = "awq", config: dict[str, Any] | None = AWQ, card: Card | Unknown = RTX_3090) -> Outcome:
    given = launch(**({"quantization": asked} if asked else {}))
    return judge(NAME, launch=given, model=holds(config), card=card)


def test_notes_that_a_faster_kernel_could_run() -> None:
    finding = one(look(), Severity.NOTE)
    assert finding.summary == (
        "--quantization awq forgoes awq_marlin, which is faster and can run this model here"
    )
    assert "config.json: quantization_config: quant_method: awq, bits: 4, group_size: 128" in shown(finding)
    assert "--gpu: rtx-3090: compute capability 8.6" in shown(finding)
    (remedy,) = finding.remedies
    assert remedy.summary == "--quantization awq_marlin"
    assert remedy.instead[0].summary == "leave --quantization out: vLLM takes awq_marlin by itself"
    assert "gptq_marlin" in one(look("gptq", GPTQ)).summary


def test_is_silent_where_the_faster_one_is_taken_or_cannot_be() -> None:
    older = structs.replace(RTX_3090, capability="7.5")
    for healthy in (
        look(""), look("awq_marlin"), look(card=older), look(config={**AWQ, "bits": 8}),
        look(config={**AWQ, "group_size": 48}), look("gptq", {**GPTQ, "sym": False}), look("fp8", FP8),
    ):  # fmt: skip
        assert isinstance(healthy, Passed), healthy


def test_is_silent_where_the_checkpoint_or_vllm_says_nothing() -> None:
    assert isinstance(look(config=None), Passed)
    silent = structs.replace(holds(AWQ), methods=None)
    found = judge(NAME, launch=launch(quantization="awq"), model=silent, card=RTX_3090)
    assert isinstance(found, Passed)


def test_is_silent_where_no_launch_was_given() -> None:
    none = Unknown("no launch was given", expected=True)
    assert isinstance(judge(NAME, launch=none, model=model(), card=none), Skipped)
    assert isinstance(judge(NAME, launch=launch("other"), model=model(), card=RTX_3090), Skipped)


def test_a_capability_that_is_not_known_leaves_it_open() -> None:
    assert isinstance(look(card=structs.replace(RTX_3090, capability="")), Inconclusive)
