"""The longest --max-model-len, and what the real vLLM and transformers take, on configs of many families.

CUDADOCTOR_STACK=/path/to/venv python -m pytest -m stack tests/real/test_model_length_truth.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cudadoctor.simulate.model_length import Undecided, limit_of

from .test_model_truth import said, site, stack

__all__ = ["site", "stack"]
pytestmark = pytest.mark.stack
_YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
_LAYERS = {"num_hidden_layers": 2, "num_attention_heads": 8, "hidden_size": 512}


def family(name: str, **more: Any) -> dict[str, Any]:
    return {"model_type": name, **_LAYERS, **more}


def ropes(name: str) -> list[dict[str, Any]]:
    """Return one family with every kind of scaling."""
    scalings: list[dict[str, Any] | None] = [
        None, _YARN, {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096},
        {"rope_type": "yarn", "factor": 2.5, "original_max_position_embeddings": 4097},
        {"rope_type": "linear", "factor": 4.0}, {"type": "dynamic", "factor": 2.0},
        {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
         "original_max_position_embeddings": 8192},
        {"type": "mrope", "mrope_section": [16, 24, 24]}, {"rope_type": "default"},
    ]  # fmt: skip
    return [
        family(name, max_position_embeddings=40960, **({"rope_scaling": each} if each else {}))
        for each in scalings
    ]


CONFIGS = [
    *ropes("qwen2"), *ropes("llama"), *ropes("qwen3"), *ropes("gemma3_text"),
    family("qwen3_moe", max_position_embeddings=262144), family("gpt2", n_positions=1024),
    family("opt", max_position_embeddings=2048, word_embed_proj_dim=512, ffn_dim=512),
    family("mpt", max_seq_len=8192, d_model=512, n_heads=8, n_layers=2),
    family("cohere", max_position_embeddings=8192, model_max_length=131072),
    family("cohere", max_position_embeddings=8192, model_max_length=4096),
    family("phi3", max_position_embeddings=131072, original_max_position_embeddings=4096, rope_scaling={
        "type": "longrope", "long_factor": [1.0] * 32, "short_factor": [1.0] * 32}),
    family("deepseek_v3", max_position_embeddings=163840, rope_scaling={
        "type": "yarn", "factor": 40, "original_max_position_embeddings": 4096, "mscale": 1.0}),
    {"model_type": "gemma3", "text_config": family(
        "gemma3_text", max_position_embeddings=131072, rope_scaling={"rope_type": "linear", "factor": 8.0})},
    {"model_type": "qwen2_5_vl", "text_config": family("qwen2_5_vl_text", max_position_embeddings=128000,
        rope_scaling={"type": "mrope", "mrope_section": [16, 24, 24]})},
    {"model_type": "gemma3", "text_config": family("gemma3_text")},
    family("gpt_oss", max_position_embeddings=131072, rope_scaling={
        "rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 4096, "truncate": False}),
    family("qwen2"), family("llama"), family("qwen2", max_position_embeddings=32768, max_seq_len=1000),
    family("falcon", max_position_embeddings=4096), family("bloom", seq_length=2048),
    family("whisper", max_source_positions=1500, max_target_positions=448, d_model=512),
]  # fmt: skip
LONGEST = """
from vllm.config.model import _get_and_verify_max_len
from vllm.transformers_utils.config import get_config, get_hf_text_config

def longest(folder):
    inner = get_hf_text_config(get_config(folder, trust_remote_code=False))
    def takes(length):
        try:
            return _get_and_verify_max_len(inner, None, length, False, None) == length
        except ValueError as error:
            assert "greater than the derived max_model_len" in str(error), error
            return False
    low, high = 0, 1 << 24
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if takes(middle) else (low, middle - 1)
    return low

found = []
for folder in order:
    try:
        found.append(longest(folder))
    except Exception as error:
        found.append(f"{type(error).__name__}: {error}")
print(json.dumps(found))
"""


def test_the_longest_length_is_that_which_vllm_takes(stack: Path, site: Path, tmp_path: Path) -> None:
    folders = []
    for number, config in enumerate(CONFIGS):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(config))
        folders.append(str(folder))
    version = next(site.glob("vllm-*.dist-info")).name.removesuffix(".dist-info").removeprefix("vllm-")
    told = said(stack, tmp_path, LONGEST, folders)
    compared, wrong = 0, []
    for config, really in zip(CONFIGS, told, strict=True):
        try:
            ours = limit_of(config, version).tokens
        except Undecided:
            continue
        compared += isinstance(really, int)
        if isinstance(really, int) and ours != really:
            wrong.append((config, ours, really))
    assert not wrong, "\n".join(map(str, wrong))
    assert compared > len(CONFIGS) * 3 / 4, told
