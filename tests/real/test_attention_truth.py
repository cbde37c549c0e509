"""Which attention backend is taken, and what the real vLLM takes, on cards that it is told of.

    CUDADOCTOR_STACK=/path/to/venv python -m pytest -m stack tests/real/test_attention_truth.py

vLLM is asked in a process of its own. Its libraries for CUDA are left out; all that chooses is its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cudadoctor.knowledge.attention import DTYPES, Asked, choose, stops_at

from .conftest import _do_without
from .test_model_truth import said, site, stack

__all__ = ["site", "stack"]
pytestmark = pytest.mark.stack
CARDS = [(7, 0), (7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0), (12, 1)]
#: head size, MLA, attention sinks
KINDS = [(128, False, False), (64, False, True), (96, False, False), (256, False, False), (576, True, False)]
BACKENDS = ["", "FLASH_ATTN", "FLASHINFER", "TRITON_ATTN", "FLEX_ATTENTION", "FLASHMLA", "TRITON_MLA",
            "FLASH_ATTN_MLA", "CUTLASS_MLA", "FLASHINFER_MLA"]  # fmt: skip
CHOOSE = """
import types
if not order["flashinfer"]:
    sys.modules["flashinfer"] = None
for name in ("vllm._C", "vllm._moe_C"):
    sys.modules[name] = types.ModuleType(name)
import torch
import vllm.platforms as platforms
from vllm.platforms.cuda import NonNvmlCudaPlatform
from vllm.platforms.interface import DeviceCapability

class Card(NonNvmlCudaPlatform):
    here = (8, 6)

    @classmethod
    def get_device_capability(cls, device_id=0):
        return DeviceCapability(*cls.here)

platforms._current_platform = Card()
torch.cuda.get_device_capability = lambda device=None: Card.here
zeros = torch.zeros  # workspaces in a GPU's memory
torch.zeros = torch.empty = lambda *sizes, device=None, **more: zeros(1)
torch.cuda.get_device_properties = lambda device=None: types.SimpleNamespace(multi_processor_count=100)
import vllm._custom_ops
vllm._custom_ops.sm100_cutlass_mla_get_workspace_size = lambda *sizes, **more: 0
import vllm.attention.ops.flashmla as flashmla
import vllm.vllm_flash_attn.flash_attn_interface as flash
from vllm.attention.backends.registry import AttentionBackendEnum as Backends

flash.is_fa_version_supported = lambda version, device=None: version == 2 or Card.here[0] == 9
flashmla._is_flashmla_available = lambda: (True, None)
import vllm.utils.flashinfer as utils
utils.has_nvidia_artifactory = lambda: False

def chosen(card, kind, dtype, backend):
    Card.here = tuple(card)
    head, mla, sinks = kind
    try:
        path = Card.get_attn_backend_cls(
            Backends[backend] if backend else None, head, torch.bfloat16, dtype, None, mla, sinks, False
        )
    except ValueError:
        return ""
    return next(each.name for each in Backends if each.value == path)

print(json.dumps([[[[chosen(card, kind, dtype, backend) for backend in order["backends"]]
                    for dtype in order["dtypes"]] for kind in order["kinds"]] for card in order["cards"]]))
"""


@pytest.mark.parametrize("flashinfer", [True, False])
def test_the_backend_is_that_which_vllm_takes(
    stack: Path, site: Path, tmp_path: Path, flashinfer: bool
) -> None:
    version = next(site.glob("vllm-*.dist-info")).name.removesuffix(".dist-info").removeprefix("vllm-")
    if not version.startswith("0.12."):
        _do_without(f"the modules of vLLM {version} have other names")
    dtypes = [dtype for dtype in DTYPES if dtype != "float16"]  # which 0.12 has not
    order = {"cards": CARDS, "kinds": KINDS, "dtypes": dtypes, "backends": BACKENDS, "flashinfer": flashinfer}
    told: Any = said(stack, tmp_path, CHOOSE, order)
    doubts, compared, wrong = 0, 0, []
    for card, of_card in zip(CARDS, told, strict=True):
        for (head, mla, sinks), of_kind in zip(KINDS, of_card, strict=True):
            for dtype, of_dtype in zip(dtypes, of_kind, strict=True):
                for backend, really in zip(BACKENDS, of_dtype, strict=True):
                    capability = f"{card[0]}.{card[1]}"
                    asked = Asked(
                        version, capability, dtype, head, mla, sinks=sinks, flashinfer=flashinfer,
                        backend=backend,
                    )  # fmt: skip
                    found = choose(asked)
                    doubts += found.ended == "unsure" and not backend
                    compared += found.ended != "unsure"
                    ours = "" if found.ended == "refused" else found.backend
                    several = found.ended == "taken" and not found.backend and really
                    if found.ended != "unsure" and ours != really and not several:
                        wrong.append((capability, head, mla, sinks, dtype, backend, found, really))
    assert not wrong, f"{len(wrong)} of {compared}:\n" + "\n".join(map(str, wrong[:20]))
    assert compared > 900 and doubts <= 8, (compared, doubts)


VALUES = ["", "XFORMERS", "FLASH_ATTN_VLLM_V1", "TRITON_ATTN_VLLM_V1", "flashinfer", "XFORMERS_VLLM_V1",
          *BACKENDS[1:], "TREE_ATTN", "TORCH_SDPA"]  # fmt: skip


def test_a_backend_s_name_is_refused_as_vllm_refuses_it(stack: Path, site: Path, tmp_path: Path) -> None:
    code = """
import os
import vllm.envs
read, found = vllm.envs.environment_variables.get("VLLM_ATTENTION_BACKEND"), []
for value in order:
    os.environ["VLLM_ATTENTION_BACKEND"] = value
    try:
        found.append(read is None or read() == value)
    except ValueError:
        found.append(False)
print(json.dumps(found))
"""
    version = next(site.glob("vllm-*.dist-info")).name.removesuffix(".dist-info").removeprefix("vllm-")
    for value, really in zip(VALUES, said(stack, tmp_path, code, VALUES), strict=True):
        assert really == (not stops_at(version, value)), value


KERNEL = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from vllm.attention.ops import triton_reshape_and_cache_flash as module

# Where vLLM sees no GPU it hands out a stand-in for triton.
module.tl = triton.language
kernel = module.reshape_and_cache_kernel_flash
kernel = kernel if hasattr(kernel, "arg_names") else triton.jit(kernel)
given = {"num_heads": 8, "head_size": 128, "block_size": 16, "FP8_KV_CACHE": True, "TILE_SIZE": 1024}
kinds = {"key_ptr": "*bf16", "value_ptr": "*bf16", "key_cache_ptr": "*fp8e4nv", "value_cache_ptr": "*fp8e4nv",
         "slot_mapping_ptr": "*i64", "k_scale": "*fp32", "v_scale": "*fp32"}
signature = {name: "constexpr" if name in given else kinds.get(name, "i64") for name in kernel.arg_names}

def ended(capability):
    try:
        triton.compile(ASTSource(fn=kernel, signature=signature, constexprs=given),
                       target=GPUTarget("cuda", capability, 32))
    except Exception as error:
        return str(error)
    return ""

print(json.dumps([ended(capability) for capability in order]))
"""


def test_triton_writes_no_fp8_cache_below_8_9(stack: Path, site: Path, tmp_path: Path) -> None:
    capabilities = [75, 80, 86, 89, 90, 120]
    told = said(stack, tmp_path, KERNEL, capabilities, TRITON_CACHE_DIR=str(tmp_path / "triton"))
    for capability, error in zip(capabilities, told, strict=True):
        refused = "type fp8e4nv not supported in this architecture" in error
        assert refused == (capability < 89) and (refused or not error), (capability, error)
