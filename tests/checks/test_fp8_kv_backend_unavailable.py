from typing import Any

from msgspec import structs

from cudadoctor.facts import Card, FlashInfer, Given, Launch, Packages, Unknown, Variable
from cudadoctor.findings import Finding, Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped
from cudadoctor.testing import judge
from tests.simulate.models import DEEPSEEK_V2_LITE, GEMMA3_27B, GPT_OSS_20B, QWEN25_32B, Config

from . import installed
from .build import environ, one, shown
from .launched import RTX_3090, launch, model

NAME = "fp8-kv-backend-unavailable"
H100 = Card("h100", 79 << 30, "9.0", source="--gpu")
L4 = Card("l4", 22 << 30, "8.9", source="--gpu")
T4 = Card("t4", 14 << 30, "7.5", source="--gpu")
B200 = Card("b200", 178 << 30, "10.0", source="--gpu")
GB10 = Card("gb10", 121 << 30, "12.1", source="--gpu")


def stack(version: str = "0.12.0", flashinfer: bool = True) -> Packages:
    pin = "flashinfer-python==0.5.3; extra == ''"
    rest = [installed.one("flashinfer-python", "0.5.3")] if flashinfer else []
    found = installed.all_of(installed.one("vllm", version, pin), *rest)
    return structs.replace(found, flashinfer=FlashInfer("0.5.3", (), "") if flashinfer else None)


def look(
    dtype: str = "fp8", card: Card | Unknown = RTX_3090, config: Config = QWEN25_32B, method: str = "awq",
    found: Packages | None = None, variables: dict[str, str] | None = None, **options: Any,
) -> Outcome:  # fmt: skip
    options |= {"kv_cache_dtype": dtype} if dtype else {}
    return judge(
        NAME, launch=launch(**options), model=model(config, method), card=card, packages=found or stack(),
        environ=environ(**(variables or {})),
    )  # fmt: skip


def fixes(finding: Finding) -> list[str]:
    first = finding.remedies[0]
    return [first.summary, *(each.summary for each in first.instead)]


def test_is_silent_where_flashinfer_does_it() -> None:
    assert isinstance(look(), Passed)
    assert isinstance(look("fp8_e5m2"), Passed)
    assert isinstance(look(card=GB10), Passed)


def test_is_silent_without_the_option_or_a_launch() -> None:
    assert isinstance(look(""), Passed)
    assert isinstance(look("auto"), Passed)
    other = judge(
        NAME, launch=launch("other"), model=model(), card=RTX_3090, packages=stack(), environ=environ()
    )
    assert isinstance(other, Skipped)
    unseen = Unknown("no GPU is visible here")
    assert isinstance(look("auto", card=unseen), Skipped)
    assert isinstance(look("fp8", card=unseen), Inconclusive)


def test_below_8_9_nothing_is_left_without_flashinfer() -> None:
    finding = one(look(found=stack(flashinfer=False)), Severity.ERROR)
    assert finding.summary == (
        "TRITON_ATTN, which is left to vLLM 0.12.0, cannot do a KV cache of fp8 on compute capability 8.6: "
        "it will stop"
    )
    assert "FLASH_ATTN: takes fp8 on 9.x alone" in shown(finding)
    assert "FLASHINFER: is not installed" in shown(finding)
    assert "type fp8e4nv not supported in this architecture" in shown(finding)
    assert fixes(finding) == ["pip install flashinfer-python==0.5.3", "--kv-cache-dtype auto"]
    assert isinstance(look(card=L4, found=stack(flashinfer=False)), Passed)


def test_heads_that_flashinfer_has_not_are_left_to_triton() -> None:
    odd = {**QWEN25_32B, "head_dim": 96}
    finding = one(look(config=odd), Severity.ERROR)
    assert "FLASHINFER: has no heads of 96" in shown(finding)
    assert fixes(finding) == ["--kv-cache-dtype auto"]
    assert isinstance(look(config=odd, card=L4), Passed)


def test_attention_sinks_and_images_are_left_to_triton() -> None:
    sinks = one(look(config=GPT_OSS_20B, method="mxfp4"), Severity.ERROR)
    assert "FLASHINFER: has no attention sinks there" in shown(sinks)
    assert isinstance(look(config=GPT_OSS_20B, card=H100), Passed)
    one(look(config=GEMMA3_27B, found=stack("0.13.0")), Severity.ERROR)
    assert isinstance(look(config=GEMMA3_27B, found=stack("0.12.0")), Passed)


def test_a_backend_that_is_asked_for_is_judged_alone() -> None:
    finding = one(look(variables={"VLLM_ATTENTION_BACKEND": "FLASH_ATTN"}), Severity.ERROR)
    assert "FLASH_ATTN, which is asked for, cannot do a KV cache of fp8" in finding.summary
    assert fixes(finding) == ["unset VLLM_ATTENTION_BACKEND", "--kv-cache-dtype auto"]
    option = one(look(found=stack("0.20.0"), attention_backend="FLEX_ATTENTION"), Severity.ERROR)
    assert fixes(option)[0] == "leave --attention-backend out"
    assert isinstance(look(card=H100, variables={"VLLM_ATTENTION_BACKEND": "FLASH_ATTN"}), Passed)
    assert isinstance(look(variables={"VLLM_ATTENTION_BACKEND": "FLASHINFER"}), Passed)
    one(look(variables={"VLLM_ATTENTION_BACKEND": "TRITON_ATTN"}), Severity.ERROR)
    gone = look(found=stack("0.16.0"), variables={"VLLM_ATTENTION_BACKEND": "FLASH_ATTN"})
    assert isinstance(gone, Passed), "0.16 does not read the variable"


def test_e5m2_is_refused_for_fp8_weights() -> None:
    finding = one(look("fp8_e5m2", method="fp8"), Severity.ERROR)
    assert finding.summary == (
        'vLLM 0.12.0 will stop with "fp8_e5m2 kv-cache is not supported with fp8 checkpoints."'
    )
    assert fixes(finding) == ["--kv-cache-dtype fp8", "--kv-cache-dtype auto"]
    one(look("fp8_e5m2", method="compressed-tensors"), Severity.ERROR)
    assert isinstance(look("fp8_e5m2", method="compressed-tensors", found=stack("0.26.0")), Passed)


def test_e5m2_breaks_flash_attention_on_hopper() -> None:
    finding = one(look("fp8_e5m2", H100, found=stack()), Severity.ERROR)
    assert 'FLASH_ATTN: takes it, then stops with "Unrecognized FP8 dtype"' in shown(finding)
    assert isinstance(look("fp8_e5m2", H100, found=stack("0.22.0")), Passed)


def test_mla_has_fp8_where_its_own_backends_have_it() -> None:
    finding = one(look(config=DEEPSEEK_V2_LITE, method=""), Severity.ERROR)
    assert "no attention backend of vLLM 0.12.0 takes a KV cache of fp8" in finding.summary
    assert "with MLA" in finding.summary and "TRITON_MLA: does not take fp8" in shown(finding)
    for card in (H100, B200):
        assert isinstance(look(card=card, config=DEEPSEEK_V2_LITE, method=""), Passed)
    assert isinstance(look(card=L4, config=DEEPSEEK_V2_LITE, method="", found=stack("0.20.0")), Passed)
    one(look(card=L4, config=DEEPSEEK_V2_LITE, method="", found=stack("0.16.0")), Severity.ERROR)


def test_dtypes_that_are_for_others_are_refused() -> None:
    one(look("fp8_inc"), Severity.ERROR)
    one(look("fp8_ds_mla"), Severity.ERROR)
    one(look("bfloat16"), Severity.ERROR)
    assert isinstance(look("bfloat16", found=stack("0.16.0")), Passed)


def test_what_a_checkpoint_states_of_its_cache_counts_as_asked_for() -> None:
    scheme = {"quant_method": "compressed-tensors", "kv_cache_scheme": {"num_bits": 8, "type": "float"}}
    config = {**QWEN25_32B, "quantization_config": scheme}
    finding = one(look("", config=config, found=stack("0.20.0", flashinfer=False)), Severity.ERROR)
    assert "config.json: states an FP8 KV cache: kv_cache_scheme" in shown(finding)
    assert isinstance(look("", config=config, found=stack(flashinfer=False)), Passed)


def test_what_was_not_looked_at_is_left_open() -> None:
    for unsure in (
        look(card=T4), look(found=stack("0.10.2")), look(found=stack("0.34.0")), look("turboquant_k8v4"),
        look(card=structs.replace(RTX_3090, capability="")), look(attention_config="{}"),
        look(variables={"VLLM_ATTENTION_BACKEND": "TREE_ATTN"}),
        look(config={**DEEPSEEK_V2_LITE, "index_topk": 2048}),
        look("bfloat16", found=stack("0.15.0")),
        look(card=B200, attention_backend="FLASH_ATTN", found=stack("0.27.0")),
    ):  # fmt: skip
        assert isinstance(unsure, Inconclusive), unsure


def test_an_image_brings_a_vllm_and_flashinfer_of_its_own() -> None:
    def contained(tag: str, **variables: str) -> Outcome:
        image: dict[str, Any] = {"image": f"vllm/vllm-openai:{tag}"}
        held = {name: Variable(value, "compose.yaml:4") for name, value in variables.items()}
        given: Launch = structs.replace(launch(kv_cache_dtype="fp8"), variables=held, **image)
        return judge(
            NAME, launch=given, model=model(), card=RTX_3090, packages=stack("0.33.0", flashinfer=False),
            environ=environ(VLLM_ATTENTION_BACKEND="FLASH_ATTN"),
        )  # fmt: skip

    assert isinstance(contained("v0.12.0"), Passed)
    one(contained("v0.12.0", VLLM_ATTENTION_BACKEND="FLASH_ATTN"), Severity.ERROR)


def test_the_place_of_the_option_is_told() -> None:
    given = launch()
    given = structs.replace(
        given, options={"--kv-cache-dtype": Given(("fp8_inc",), "compose.yaml:9", "--kv_cache_dtype")}
    )
    found = judge(NAME, launch=given, model=model(), card=RTX_3090, packages=stack(), environ=environ())
    assert "compose.yaml:9: --kv_cache_dtype fp8_inc" in shown(one(found))
