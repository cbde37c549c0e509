"""What is read off a real vLLM, huggingface_hub and safetensors, and what these themselves say.

    CUDADOCTOR_STACK=/path/to/venv python -m pytest -m stack tests/real/test_model_truth.py

Each is asked in a process of its own on the CPU; for the rules of quantisation it is told of a card.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cudadoctor.facts import Distribution, Packages
from cudadoctor.facts.model import Quantization
from cudadoctor.host import RealHost
from cudadoctor.probes import quantization
from cudadoctor.probes.architectures import look, registry
from cudadoctor.probes.safetensors import survey
from cudadoctor.simulate.quantization import loading
from tests.probes.checkpoints import AWQ, COMMIT, COMPRESSED, FP8, PLAIN, Home, cached, config, launch, shards

from .conftest import _do_without

pytestmark = pytest.mark.stack
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True, "desc_act": False}
STATED: list[dict[str, Any] | None] = [
    None, AWQ, {**AWQ, "group_size": 48}, {**AWQ, "bits": 8}, GPTQ, {**GPTQ, "bits": 3},
    {**GPTQ, "sym": False}, FP8, COMPRESSED, {"quant_method": "compressed_tensors"},
    {"quant_method": "modelopt", "quant_algo": "FP8"},
    {"quant_method": "modelopt", "quant_algo": "NVFP4"}, {"quant_method": "mxfp4"}, {"bits": 4},
    {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8"}},
    {"quant_method": "bitsandbytes", "load_in_4bit": True}, {"quant_method": "nonsense"},
]  # fmt: skip
ASKED = ["", "awq", "awq_marlin", "gptq", "gptq_marlin", "fp8", "bitsandbytes", "compressed-tensors",
         "modelopt", "moe_wna16", "nonsense"]  # fmt: skip


@pytest.fixture(scope="module")
def stack() -> Path:
    named = os.environ.get("CUDADOCTOR_STACK")
    if not named:
        pytest.skip("CUDADOCTOR_STACK names no environment")
    return Path(named)


@pytest.fixture(scope="module")
def site(stack: Path) -> Path:
    found = next(iter(stack.glob("lib/python3*/site-packages/vllm")), None)
    return found.parent if found else _do_without(f"{stack} has no vLLM")


def said(stack: Path, home: Path, code: str, order: object = None, **variables: str) -> Any:
    """Return what a program in the stack's interpreter prints last, as JSON."""
    environ = {
        "PATH": f"{stack}/bin:/usr/bin:/bin", "HOME": str(home), "VLLM_CACHE_ROOT": str(home / "vllm"),
        "PYTHONDONTWRITEBYTECODE": "1", "VLLM_PLUGINS": "", "CUDA_VISIBLE_DEVICES": "", **variables,
    }  # fmt: skip
    ran = subprocess.run(
        [f"{stack}/bin/python", "-B", "-c", f"import json, sys; order = json.loads(sys.argv[1])\n{code}",
         json.dumps(order)], env=environ, cwd=home, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]
    return json.loads(ran.stdout.strip().rpartition("\n")[2])


def test_the_registry_is_read_without_a_difference(stack: Path, site: Path, tmp_path: Path) -> None:
    code = """
from vllm.model_executor.models.registry import _VLLM_MODELS, _PREVIOUSLY_SUPPORTED_MODELS, ModelRegistry
assert set(_VLLM_MODELS) == set(ModelRegistry.get_supported_archs())
print(json.dumps([_VLLM_MODELS, _PREVIOUSLY_SUPPORTED_MODELS]))
"""
    known, former = said(stack, tmp_path, code)
    found = registry(RealHost({}), str(site))
    assert not isinstance(found, str)
    assert found.known == {name: tuple(entry) for name, entry in known.items()}
    assert found.former == former and len(found.known) > 100


VERIFY = """
import types
import torch
from vllm.config.model import ModelConfig
from vllm.model_executor.layers import quantization
from vllm.model_executor.model_loader.weight_utils import get_quant_config
from vllm.platforms import current_platform
from vllm.platforms.interface import DeviceCapability, PlatformEnum

quantization.get_quantization_config("awq")  # imports them all, as on a machine without a card
Card = type(current_platform)
Card._enum, Card.device_type = PlatformEnum.CUDA, "cuda"
torch.cuda.get_device_capability = lambda device=None: tuple(order["card"])
Card.get_device_capability = classmethod(lambda cls, device_id=0: DeviceCapability(*order["card"]))

def ended(stated, asked):
    config = types.SimpleNamespace(**({"quantization_config": dict(stated)} if stated else {}))
    asking = types.SimpleNamespace(hf_config=config, quantization=asked or None, hf_overrides={},
                                   model=order["folder"], revision=None)
    asking._parse_quant_hf_config = types.MethodType(ModelConfig._parse_quant_hf_config, asking)
    try:
        ModelConfig._verify_quantization(asking)
    except ValueError as error:
        return "mismatch" if "does not match" in str(error) else "not-a-method"
    if stated is None and asked:
        try:
            get_quant_config(asking, types.SimpleNamespace(download_dir=None))
        except ValueError as error:
            return "no-config" if "Cannot find the config file" in str(error) else str(error)
        except Exception as error:
            return "raises"
    return [asking.quantization]

print(json.dumps([[ended(stated, asked) for asked in order["asked"]] for stated in order["stated"]]))
"""


@pytest.mark.parametrize("card", [(8, 6), (7, 5), (9, 0)])
def test_quantisation_ends_as_vllm_ends_it(
    stack: Path, site: Path, tmp_path: Path, card: tuple[int, int]
) -> None:
    folder = config(tmp_path / "m")
    order = {"stated": STATED, "asked": ASKED, "card": card, "folder": str(folder)}
    told = said(stack, tmp_path, VERIFY, order)
    methods = quantization.methods(RealHost({}), str(site), ASKED)
    known = quantization.methods(RealHost({}), str(site), methods.names)
    doubts, wrong = 0, []
    for stated, row in zip(STATED, told, strict=True):
        read = quantization.stated({"quantization_config": stated}, None) if stated else None
        assert stated is None or isinstance(read, Quantization)
        for asked, really in zip(ASKED, row, strict=True):
            found = loading(read, asked, known, (), card[0] * 10 + card[1])
            doubts += found.ended == "cannot-tell"
            ours = (
                [found.method or None] if found.ended in ("plain", "as-asked", "as-stated") else found.ended
            )
            # Which of its two refusals comes first makes no difference: one names both.
            same = ours == really or {str(ours), str(really)} <= {"mismatch", "not-a-method"}
            if found.ended != "cannot-tell" and not same and really != "raises":
                wrong.append((stated, asked, ours, really))
    assert not wrong, "\n".join(map(str, wrong))
    assert doubts < len(STATED) * len(ASKED) / 3


def test_a_snapshot_is_where_huggingface_hub_finds_it(stack: Path, tmp_path: Path) -> None:
    code = """
from huggingface_hub import snapshot_download, try_to_load_from_cache
from huggingface_hub.utils import get_token
found = []
for revision in order["revisions"]:
    try:
        path = snapshot_download(order["name"], revision=revision, local_files_only=True)
    except Exception as error:
        path = ""
    config = try_to_load_from_cache(order["name"], "config.json", revision=revision)
    found.append([path, config if isinstance(config, str) else ""])
from huggingface_hub.constants import HF_HUB_CACHE, HF_HUB_OFFLINE, HF_TOKEN_PATH
print(json.dumps([HF_HUB_CACHE, HF_TOKEN_PATH, HF_HUB_OFFLINE, bool(get_token()), found]))
"""
    name = "Qwen/Qwen3-4B"
    revisions = ["main", COMMIT, "b" * 40, "nowhere", "old"]
    for number, variables in enumerate((
        {}, {"HF_HOME": "~/hf"}, {"HF_HOME": "$HOME/a b", "HF_TOKEN": ""}, {"XDG_CACHE_HOME": "xdg"},
        {"HUGGINGFACE_HUB_CACHE": "${HOME}/old", "HF_HUB_OFFLINE": "", "TRANSFORMERS_OFFLINE": "yes"},
        {"HF_HUB_CACHE": "new", "HF_HOME": "other", "HF_TOKEN": "  ", "HF_HUB_OFFLINE": "1"},
        {"HF_HUB_CACHE": "$NOWHERE/new", "HF_TOKEN": "x"}, {"HF_TOKEN_PATH": "~/token"},
    )):  # fmt: skip
        path = tmp_path / str(number)
        path.mkdir()
        (path / "token").write_text("hf_x\n")
        home = Home(path)
        cache = Path(home.model(launch(name, variables)).cache)
        cached(cache, name)
        (cache / "models--Qwen--Qwen3-4B/refs/old").write_text(f"{COMMIT}\n")
        told, token_path, offline, token, found = said(
            stack, path, code, {"name": name, "revisions": revisions}, **variables
        )
        models = [home.model(launch(name, variables, revision=revision)) for revision in revisions]
        assert Path(told) == cache or path / told == cache, variables
        assert [[model.path, model.config_path] for model in models] == [
            [str(path / each) if each else "" for each in pair] for pair in found
        ]
        assert models[0].token.file in (token_path, str(path / token_path))
        assert bool(models[0].token.source) == token and bool(models[0].offline) == offline


def test_headers_are_judged_as_safetensors_judges_them(stack: Path, tmp_path: Path) -> None:
    code = """
from pathlib import Path
from safetensors import safe_open
found = {}
for path in sorted(Path(order).glob("*/*.safetensors")):
    try:
        with safe_open(path, framework="np") as file:
            found[str(path)] = sum(1 for _ in file.keys())
    except Exception as error:
        found[str(path)] = str(error)
print(json.dumps(found))
"""
    for name, cut in (("whole", 0), ("short", -5), ("shorter", -4000), ("long", 7), ("none", -10_000)):
        shards(tmp_path / name, [4096])
        path = next((tmp_path / name).glob("*.safetensors"))
        os.truncate(path, max(0, path.stat().st_size + cut))
    for name, content in (("zeros", bytes(100)), ("text", b"version https://git-lfs")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(content)
    told = said(stack, tmp_path, code, str(tmp_path))
    for path, really in told.items():
        found = survey(RealHost({}), str(Path(path).parent))
        assert found is not None
        assert (found.flawed == 0) == isinstance(really, int), (path, really, found)


def test_real_files_weigh_what_safetensors_wrote(stack: Path, tmp_path: Path) -> None:
    code = """
import numpy, pathlib
from safetensors.numpy import save_file
total = 0
for at, kind in enumerate(("float32", "float16", "int8", "uint8", "int64", "bool")):
    values = {f"{kind}.{n}": numpy.zeros((at + 1, n + 1, 7), kind) for n in range(50)}
    save_file(values, f"model-{at}.safetensors", metadata={"format": "pt"})
    total += sum(each.nbytes for each in values.values())
print(total)
"""
    total = said(stack, tmp_path, code)
    found = survey(RealHost({}), str(tmp_path))
    assert found is not None and found.tensor_bytes == total and not found.flaws and found.files == 6


def test_the_architectures_of_the_deployments_are_known(site: Path, tmp_path: Path) -> None:
    home = Home(tmp_path, str(site), vllm="0.12.0", transformers="4.57.6")
    for name, verdict in (
        ("Qwen2ForCausalLM", "known"), ("Qwen3ForCausalLM", "known"), ("Qwen3NextForCausalLM", "known"),
        ("Qwen3ForSequenceClassification", "known"), ("Qwen9ForCausalLM", "unknown"),
        ("FooBarForCausalLM", "unknown"), ("HeliumForCausalLM", "fallback"),
        ("BitNetForCausalLM", "fallback"),
        ("T5ForConditionalGeneration", "unknown"), ("GPTNeoForCausalLM", "unknown"),
    ):  # fmt: skip
        families = {"Helium": "helium", "BitNet": "bitnet", "T5ForC": "t5", "GPTNeo": "gpt_neo"}
        family = families.get(name[:6], "qwen3")
        config(tmp_path / "m", {**PLAIN, "architectures": [name], "model_type": family})
        found = home.model("m").architecture
        assert found and found.verdict == verdict, found


def test_vllm_s_own_entry_points_are_no_plugin_and_those_of_others_are(site: Path, tmp_path: Path) -> None:
    own = next(site.glob("vllm-*.dist-info"))
    home = Home(tmp_path, str(site))
    installed = Distribution("vllm", "0.12.0", str(site), file=f"{own.name}/METADATA")
    home.packages = Packages((installed,))
    config(tmp_path / "m", {**PLAIN, "architectures": ["FooBarForCausalLM"]})
    found = home.model("m").architecture
    assert "[vllm.general_plugins]" in (own / "entry_points.txt").read_text()
    assert found and found.verdict == "unknown"
    (tmp_path / "site/mine-1.0.dist-info").mkdir(parents=True)
    (tmp_path / "site/mine-1.0.dist-info/entry_points.txt").write_text(
        "[vllm.general_plugins]\nmine = mine:register\n"
    )
    plugin = Distribution("mine", "1.0", str(tmp_path / "site"), file="mine-1.0.dist-info/METADATA")
    home.packages = Packages((installed, plugin))
    found = home.model("m").architecture
    assert found and found.verdict == "cannot-tell" and "mine 1.0" in found.reason


def test_no_class_that_vllm_would_run_by_transformers_is_called_unknown(
    stack: Path, site: Path, tmp_path: Path
) -> None:
    code = """
import transformers
from transformers.models.auto import modeling_auto
told = {}
for kind in ("CAUSAL_LM", "SEQ_TO_SEQ_CAUSAL_LM", "IMAGE_TEXT_TO_TEXT", "SEQUENCE_CLASSIFICATION"):
    for family, names in getattr(modeling_auto, f"MODEL_FOR_{kind}_MAPPING_NAMES").items():
        for name in [names] if isinstance(names, str) else names:
            try:
                told[name] = [family, bool(getattr(transformers, name).is_backend_compatible())]
            except Exception:
                pass
print(json.dumps(told))
"""
    told = said(stack, tmp_path, code)
    home = Home(tmp_path, str(site), vllm="0.12.0", transformers="4.57.6")
    verdicts = {}
    for name, (family, compatible) in told.items():
        asked = {"architectures": [name], "model_type": family}
        found = look(RealHost({}), home.packages, asked)
        verdicts[name] = (found.verdict if found else "", compatible)
    wrong = [name for name, verdict in verdicts.items() if verdict == ("unknown", True)]
    assert not wrong and len(told) > 200
    assert sum(verdict == ("unknown", False) for verdict in verdicts.values()) > 50
