"""What the checks of a model's files say, and how the real vLLM and huggingface_hub end on the same files.

    CUDADOCTOR_STACK=/path/to/venv python -m pytest -m stack tests/real/test_model_files_truth.py

Each is asked in a process of its own on the CPU; for quantisation it is told of a card.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cudadoctor.facts import Card
from cudadoctor.host import RealHost
from cudadoctor.outcomes import Failed, Inconclusive, Outcome
from cudadoctor.probes import quantization
from cudadoctor.testing import judge
from tests.probes.checkpoints import COMMIT, INDEX, PLAIN, Home, cached, config, launch, shards
from tests.probes.test_online import Hub

from .test_model_truth import said, site, stack

__all__ = ["site", "stack"]
pytestmark = pytest.mark.stack
#: What runs on other hardware than a GPU of NVIDIA's, and says so in a way of its own.
ELSEWHERE = {"tpu_int8", "ptpc_fp8", "inc", "ipex", "cpu_awq", "cpu_gptq"}

QUANTISED = """
import types, torch
from vllm.config import VllmConfig
from vllm.platforms import current_platform
from vllm.platforms.interface import DeviceCapability
Card = type(current_platform)
Card.get_device_capability = classmethod(lambda cls, device_id=0: DeviceCapability(*order["card"]))

def ended(method, dtype):
    asking = types.SimpleNamespace(hf_config=types.SimpleNamespace(), quantization=method, hf_overrides={},
                                   model=order["folder"], revision=None, dtype=getattr(torch, dtype))
    try:
        VllmConfig._get_quantization_config(asking, types.SimpleNamespace(download_dir=None))
    except Exception as error:
        return type(error).__name__
    return ""

print(json.dumps([[ended(method, dtype) for dtype in order["dtypes"]] for method in order["methods"]]))
"""


def judged(check: str, home: Home, model: str, card: Card | None = None, **options: str) -> Outcome:
    """Return how a check ends on the files of a model, read from the disk."""
    given = launch(model, None, **options)
    sections: dict[str, Any] = {"launch": given, "model": home.model(given)}
    if card is not None:
        sections["card"] = card
    return judge(check, **sections)


@pytest.mark.parametrize("card", [(8, 6), (7, 5), (9, 0)])
def test_plain_weights_end_with_each_method_as_vllm_ends_them(
    stack: Path, site: Path, tmp_path: Path, card: tuple[int, int]
) -> None:
    folder = config(tmp_path / "m")
    home = Home(tmp_path, str(site), vllm="0.12.0")
    methods = [
        name for name in quantization.methods(RealHost({}), str(site), ()).names if name not in ELSEWHERE
    ]
    dtypes = ["float16", "bfloat16"]
    told = said(stack, tmp_path, QUANTISED, {
        "card": card, "folder": str(folder), "methods": methods, "dtypes": dtypes,
    })  # fmt: skip
    seen = Card("card", 24 << 30, f"{card[0]}.{card[1]}", source="--gpu")
    wrong, doubts = [], []
    for method, row in zip(methods, told, strict=True):
        for dtype, error in zip(dtypes, row, strict=True):
            found = judged(
                "quantization-config-missing", home, str(folder), seen, quantization=method, dtype=dtype
            )
            if isinstance(found, Inconclusive):
                doubts.append((method, found.reason))
            elif isinstance(found, Failed) != bool(error):
                wrong.append((method, dtype, error, found))
    assert not wrong, "\n".join(map(str, wrong))
    assert len(methods) > 15 and len(doubts) <= 2, doubts


LOADED = """
from vllm.config.load import LoadConfig
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader
from vllm.transformers_utils.config import get_config
from vllm.transformers_utils.tokenizer import get_tokenizer

def ended(call):
    try:
        return call() or ""
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:200]

def weights(folder):
    loader = DefaultModelLoader(LoadConfig())
    return "whole %d" % len(loader._prepare_weights(folder, None, True, None)[1])

print(json.dumps({folder: [ended(lambda: get_config(folder, False) and ""), ended(lambda: weights(folder)),
                           ended(lambda: get_tokenizer(folder) and "")] for folder in order}))
"""


def test_what_is_not_whole_is_what_vllm_stops_at_or_passes_over(
    stack: Path, site: Path, tmp_path: Path
) -> None:
    home = Home(tmp_path)
    whole, short, none, bare = (tmp_path / name for name in ("whole", "short", "none", "bare"))
    for folder in (whole, short, none):
        config(folder, {**PLAIN, "model_type": "qwen3"})
    for folder in (whole, short):
        shards(folder, [1000, 1000, 1000])
    (short / "model-00002-of-00003.safetensors").unlink()
    bare.mkdir()
    told = said(stack, tmp_path, LOADED, [str(each) for each in (whole, short, none, bare)])
    # What is missing vLLM does not even notice here: it takes the files that are there.
    assert told[str(whole)][1] == "whole 3" and told[str(short)][1] == "whole 2"
    assert "Cannot find any model weights" in told[str(none)][1]
    assert "Invalid repository ID or local directory" in told[str(bare)][0]
    assert told[str(whole)][2]  # without a tokenizer
    says = [finding.summary for finding in judged("model-incomplete", home, str(whole)).findings]
    assert len(says) == 1 and says[0].endswith("has no tokenizer")
    (whole / "tokenizer.json").write_text("{}")
    assert not judged("model-incomplete", home, str(whole)).findings
    assert "model-00002" in judged("model-incomplete", home, str(short)).findings[0].summary
    assert "Cannot find any model weights" in judged("model-incomplete", home, str(none)).findings[0].summary
    assert "no config.json" in judged("model-not-found", home, str(bare)).findings[0].summary


FETCHED = """
from pathlib import Path
from huggingface_hub import hf_hub_download
print(json.dumps([Path(hf_hub_download(order["name"], name)).stat().st_size for name in order["files"]]))
"""


def test_what_is_damaged_in_the_cache_is_not_sent_again_and_what_is_missing_is(
    stack: Path, tmp_path: Path
) -> None:
    name, home, hub = "Qwen/Qwen3-4B", Home(tmp_path), Hub()
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    snapshot = cached(home.cache, name)
    shards(snapshot, [5000, 5000])
    for file in (first, second):
        hub.files[f"/{name}/resolve/main/{file}"] = (snapshot / file).read_bytes()
    whole = (snapshot / first).stat().st_size
    os.truncate(snapshot / first, 100)
    (snapshot / second).unlink()
    (snapshot / second).symlink_to("../../blobs/gone")
    outcome = judged("model-incomplete", home, name)
    variables = {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1"}
    sizes = said(stack, tmp_path, FETCHED, {"name": name, "files": [first, second]}, **variables)
    hub.server.shutdown()
    assert sizes == [100, whole] and COMMIT in str(snapshot) and (snapshot / INDEX).exists()
    (finding,) = outcome.findings
    assert first in finding.summary and second not in json.dumps([each.source for each in finding.evidence])
