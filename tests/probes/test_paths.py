"""Which parts of the stack a launch runs: FlashInfer where that is sure, and not known otherwise."""

from __future__ import annotations

import pytest
from msgspec import structs

from cudadoctor.facts import Card, Environ, Launch, Paths, Unknown, Variable
from cudadoctor.probes.paths import probe
from cudadoctor.testing import FakeHost
from tests.checks import installed
from tests.checks.launched import RTX_3090, launch, model

B200 = Card("b200", 178 << 30, "10.0")
PACKAGES = installed.all_of(installed.one("vllm", "0.12.0"), installed.one("flashinfer-python", "0.5.3"))


def seen(given: Launch, card: Card | None = RTX_3090, **variables: str) -> Paths | Unknown:
    environ = Environ({n: Variable(v, "environment") for n, v in variables.items()}, "the current variables")
    return probe(FakeHost(), given, environ, PACKAGES, model(), card)


def used(given: Launch, card: Card | None = RTX_3090, **variables: str) -> Paths:
    found = seen(given, card, **variables)
    assert isinstance(found, Paths)
    return found


def test_a_plain_launch_is_not_known_to_run_flashinfer() -> None:
    assert used(launch()) == Paths(None, "attention by FLASH_ATTN", "FLASH_ATTN")


@pytest.mark.parametrize(
    ("given", "card", "variables"),
    [
        (launch(kv_cache_dtype="fp8"), RTX_3090, {}),
        (launch(), B200, {}),
        (launch(), RTX_3090, {"VLLM_ATTENTION_BACKEND": "FLASHINFER"}),
        (launch(), RTX_3090, {"VLLM_USE_FLASHINFER_SAMPLER": "1"}),
        (launch(), None, {"VLLM_USE_FLASHINFER_SAMPLER": "1"}),
    ],
)
def test_it_is_where_its_attention_or_sampling_takes_it(
    given: Launch, card: Card | None, variables: dict[str, str]
) -> None:
    assert used(given, card, **variables).flashinfer is True


def test_without_a_card_nothing_is_known() -> None:
    assert used(launch(), None) == Paths(None, "the model or the GPU is not known")


def test_a_container_s_are_not_told_by_this_environment() -> None:
    found = seen(structs.replace(launch(), image="vllm/vllm-openai:v0.12.0"))
    assert isinstance(found, Unknown) and found.expected
