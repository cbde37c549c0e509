"""Five real deployments, as `cudadoctor preflight` judges them before they are launched.

Each is a real process on files that are written as their owners had them: the config.json of the model, its
weights as sparse files of their real size, the command, script, compose file or Dockerfile. What was logged
of them is compared where it is certain.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.probes.checkpoints import DEPLOYED, config, shards
from tests.probes.test_online import Hub, hub, library

from .test_check import patient, run

__all__ = ["hub", "library", "patient"]
GIB = 1 << 30
#: GiB of the tensors of each checkpoint: its parameters in their formats.
SIZES = {
    "Qwen/Qwen2.5-32B-Instruct-AWQ": 18.0,
    "local/Qwen3-Next-80B-A3B-FP8": 76.0,
    "Qwen/Qwen3-4B-Instruct-2507-FP8": 4.11,
    "Qwen/Qwen3-32B-FP8": 31.97,
    "Qwen/Qwen2.5-7B-Instruct-AWQ": 5.19,
}


def model(folder: Path, name: str) -> Path:
    """Write a model's config, tokenizer and weights; return its folder."""
    path = config(folder / name.rpartition("/")[2], DEPLOYED[name])
    (path / "tokenizer.json").write_text("{}")
    shards(path, [int(SIZES[name] * GIB / 4)] * 4)
    return path


def with_vllm(patient: Path, version: str) -> Path:
    """Plant vLLM's metadata beside torch and FlashInfer; return the environment."""
    folder = patient / f"lib/python3.11/site-packages/vllm-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n\n")
    return patient


def preflight(prefix: Path, *argv: str) -> Any:
    """Return the report of a preflight."""
    ran = run("preflight", "--no-config", "--prefix", str(prefix), "--format", "json", *argv)
    assert (ran.stderr, ran.returncode in (0, 1)) == ("", True), ran
    return json.loads(ran.stdout)


def said(report: Any, check: str) -> Any:
    """Return a check's outcome in a report."""
    return next(each for each in report["outcomes"] if each["check"] == check)


def the(report: Any, check: str) -> Any:
    """Return a check's only finding."""
    (finding,) = said(report, check)["findings"]
    return finding


def holds(span: Any, value: float) -> bool:
    return bool(span["low"] <= value <= span["high"])


def written(folder: Path, name: str, text: str) -> str:
    folder.mkdir(exist_ok=True, parents=True)
    (folder / name).write_text(text)
    return str(folder / name)


# --- RTX 3090, Qwen2.5-32B-Instruct-AWQ ---------------------------------------------------------------------

#: As it was logged with 0.12.0: plain AWQ, a batch of 8192 tokens, 64 sequences.
LOGGED = ("--quantization", "awq", "--max-num-batched-tokens", "8192", "--max-num-seqs", "64")


def on_a_3090(prefix: Path, folder: Path, utilization: str, *argv: str) -> Any:
    where = folder / "Qwen2.5-32B-Instruct-AWQ"
    path = where if where.exists() else model(folder, "Qwen/Qwen2.5-32B-Instruct-AWQ")
    command = ("vllm", "serve", str(path), "--gpu-memory-utilization", utilization, *argv)
    return preflight(prefix, "--gpu", "rtx-3090", "--", *command)


@pytest.mark.parametrize("dtype", ["auto", "fp8"])
@pytest.mark.parametrize("length", ["2048", "4096"])
def test_at_0_75_a_3090_has_no_room_whatever_the_length_and_the_kv_dtype(
    patient: Path, tmp_path: Path, dtype: str, length: str
) -> None:
    prefix = with_vllm(patient, "0.12.0")
    report = on_a_3090(
        prefix, tmp_path, "0.75", "--max-model-len", length, "--kv-cache-dtype", dtype, *LOGGED
    )
    finding = the(report, "kv-cache-does-not-fit")
    assert finding["severity"] == "error"
    assert finding["summary"] == (
        'will stop with "No available memory for the cache blocks"; lowering utilisation makes it worse'
    )
    plan = report["plan"]
    assert holds(plan["kv_cache"], -1.93 * GIB), "what was logged"
    assert plan["weights"]["low"] > plan["budget_bytes"]
    assert finding["remedies"][0]["values"]["options"].startswith("--gpu-memory-utilization 0.9")


def test_at_0_90_what_was_logged_of_a_3090_is_within_the_bounds(patient: Path, tmp_path: Path) -> None:
    prefix = with_vllm(patient, "0.12.0")
    wide = on_a_3090(prefix, tmp_path, "0.90", "--max-model-len", "4096", *LOGGED)["plan"]
    narrow = on_a_3090(
        prefix, tmp_path, "0.90", "--max-model-len", "2048", "--kv-cache-dtype", "fp8", *LOGGED
    )["plan"]
    assert holds(wide["weights"], 18.1436 * GIB)
    assert holds(wide["kv_cache"], 1.17 * GIB)
    assert wide["needed_bytes"] == GIB
    assert holds(wide["kv_tokens"], 4784) and holds(narrow["concurrency"], 4.67)


def test_with_its_defaults_4096_tokens_fit_a_3090_at_0_90_without_fp8(patient: Path, tmp_path: Path) -> None:
    prefix = with_vllm(patient, "0.12.0")
    plan = on_a_3090(prefix, tmp_path, "0.90", "--max-model-len", "4096")["plan"]
    assert plan["outcome"] == "fits"
    assert holds(plan["concurrency"], 1.2)


def test_what_is_shown_of_a_3090_at_0_75(patient: Path, tmp_path: Path) -> None:
    path = model(tmp_path, "Qwen/Qwen2.5-32B-Instruct-AWQ")
    ran = run(
        "preflight", "--no-config", "--prefix", str(with_vllm(patient, "0.12.0")), "--gpu", "rtx-3090", "--",
        "vllm", "serve", str(path), "--max-model-len", "4096", "--gpu-memory-utilization", "0.75",
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (1, "")
    lines = ran.stdout.splitlines()
    assert "GPU memory   RTX 3090, 23.58 GiB · budget 17.7 GiB at 0.75 · as vLLM 0.12.0 plans" in lines
    (at,) = [number for number, line in enumerate(lines) if line.startswith("✗ kv-cache-does-not-fit")]
    first, second, third = lines[at + 1 : at + 4]
    assert first == (
        "    would fit   --gpu-memory-utilization 0.90                          "
        "4096 tokens, 1.2 to 1.9 requests at once"
    )
    assert second == (
        "    more room   --gpu-memory-utilization 0.90 --kv-cache-dtype fp8     "
        "4096 tokens, 2.3 to 3.9; 2048 tokens, 4.7 to 7.8; FlashInfer compiles for it at the first start"
    )
    assert third.startswith("    more room   --gpu-memory-utilization 0.90 --max-num-seqs 16        4096")


def test_each_line_of_advice_starts_when_it_is_followed(patient: Path, tmp_path: Path) -> None:
    prefix = with_vllm(patient, "0.12.0")
    finding = the(
        on_a_3090(prefix, tmp_path, "0.75", "--max-model-len", "4096", *LOGGED), "kv-cache-does-not-fit"
    )
    for remedy in finding["remedies"]:
        options = remedy["values"]["options"].split()
        again = on_a_3090(prefix, tmp_path, "0.75", "--max-model-len", "4096", *LOGGED, *options)
        assert again["plan"]["outcome"] == "fits", options
        assert said(again, "kv-cache-does-not-fit")["outcome"] == "passed"


def test_the_plan_and_the_advice_replay(patient: Path, tmp_path: Path) -> None:
    prefix = with_vllm(patient, "0.12.0")
    for utilization in ("0.75", "0.95"):
        first = on_a_3090(prefix, tmp_path, utilization, "--max-model-len", "4096")
        saved = written(tmp_path, "report.json", json.dumps(first))
        again = json.loads(run("check", "--facts", saved, "--format", "json", "--no-config").stdout)
        assert again["plan"] == first["plan"] is not None
        assert (
            said(again, "kv-cache-does-not-fit")["findings"]
            == (said(first, "kv-cache-does-not-fit")["findings"])
        )


# --- RTX 4090 Laptop, Qwen3-Next-80B-A3B FP8 ----------------------------------------------------------------

SCRIPT = """import os
os.environ["VLLM_USE_V1"] = "1"
from vllm import LLM, SamplingParams

MODEL_PATH = "{path}"

def main():
    llm = LLM(
        model=MODEL_PATH,
        quantization="compressed-tensors",
        gpu_memory_utilization={utilization},{offload}
        max_model_len={length},
        trust_remote_code=True,
    )
    print(llm.generate(["hello"], SamplingParams(max_tokens=8)))

if __name__ == "__main__":
    main()
"""


def on_a_laptop(patient: Path, folder: Path, utilization: str, offload: str, length: str) -> Any:
    path = model(folder, "local/Qwen3-Next-80B-A3B-FP8")
    text = SCRIPT.format(path=path, utilization=utilization, offload=offload, length=length)
    script = written(folder, "run.py", text)
    return preflight(with_vllm(patient, "0.10.2"), "--gpu", "rtx-4090-laptop", "--script", script)


@pytest.mark.parametrize(("utilization", "length"), [("0.85", "2048"), ("0.3", "512")])
def test_80b_parameters_do_not_fit_a_laptop_and_what_would_do_is_named(
    patient: Path, tmp_path: Path, utilization: str, length: str
) -> None:
    report = on_a_laptop(patient, tmp_path, utilization, "", length)
    finding = the(report, "weights-do-not-fit")
    assert finding["severity"] == "error"
    assert "GiB of weights do not fit on RTX 4090 Laptop (15.6 GiB) at any setting" in finding["summary"]
    needs = float(finding["summary"].rpartition(" GiB")[0].rpartition(" ")[2])
    assert 76 < needs < 84, "of the class of 80 GB"
    (remedy,) = finding["remedies"]
    assert remedy["values"] == {"label": "would do"} and "GiB)" in remedy["summary"]
    assert "offload" not in remedy["summary"], "this version refuses it for hybrids"


def test_offloading_a_hybrid_is_refused_by_that_version(patient: Path, tmp_path: Path) -> None:
    report = on_a_laptop(patient, tmp_path, "0.5", "\n        cpu_offload_gb=90,", "1024")
    finding = the(report, "cpu-offload-hybrid-unsupported")
    assert finding["severity"] == "error"
    assert "Cannot re-initialize the input batch when CPU weight offloading is enabled" in finding["summary"]


# --- RTX 4090 Laptop, Qwen3-4B-Instruct-2507-FP8 ------------------------------------------------------------


def test_131_072_tokens_do_not_fit_16_gb_and_how_many_do_is_said_in_python(
    patient: Path, tmp_path: Path
) -> None:
    path = model(tmp_path, "Qwen/Qwen3-4B-Instruct-2507-FP8")
    text = f"""from vllm import LLM
settings = dict(
    model="{path}", quantization="fp8", kv_cache_dtype="auto", max_model_len=131072,
    gpu_memory_utilization=0.85, max_num_batched_tokens=8192, max_num_seqs=256, use_v2_block_manager=True,
)
llm = LLM(**settings)
"""
    prefix = with_vllm(patient, "0.10.1")
    report = preflight(prefix, "--gpu", "rtx-4090-laptop", "--script", written(tmp_path, "serve.py", text))
    finding = the(report, "kv-cache-does-not-fit")
    assert finding["severity"] == "error"
    assert finding["summary"].startswith("one request does not fit: 131072 tokens need 18.0 GiB, ")
    told = [remedy["values"]["options"] for remedy in finding["remedies"]]
    lengths = [int(options.rpartition("max_model_len=")[2]) for options in told if "max_model_len" in options]
    assert any(40_000 < length < 70_000 for length in lengths), told
    assert not any("--" in options for options in told)
    served = ("vllm", "serve", str(path), "--max-model-len", str(lengths[0]), "--gpu-memory-utilization",
              "0.85", "--max-num-batched-tokens", "8192", "--max-num-seqs", "256")  # fmt: skip
    assert preflight(prefix, "--gpu", "rtx-4090-laptop", "--", *served)["plan"]["outcome"] == "fits"


# --- GB10, Qwen3-32B-FP8 ------------------------------------------------------------------------------------

SPARK = """services:
  vllm:
    image: nvcr.io/nvidia/vllm:25.09-py3
    ipc: host
    ports:
      - "${VLLM_PORT:-8000}:8000"
    environment:
      - HF_TOKEN=${HF_TOKEN}
    volumes:
      - ./models:/models
    command: >
      vllm serve /models/Qwen3-32B-FP8
      --max-model-len 32000
      --gpu-memory-utilization 0.90
      --max-num-batched-tokens 16384
      --max-num-seqs 64
      --enable-prefix-caching
      --trust-remote-code
"""


def test_a_32b_model_fits_a_gb10_in_the_image_that_its_owner_came_to(patient: Path, tmp_path: Path) -> None:
    model(tmp_path / "spark/models", "Qwen/Qwen3-32B-FP8")
    compose = written(tmp_path / "spark", "compose.yaml", SPARK)
    written(tmp_path / "spark", ".env", "HF_TOKEN=hf_x\nVLLM_PORT=8080\n")
    argv = ("--gpu", "gb10", "--compose", compose)
    plan = preflight(patient, *argv)["plan"]
    assert (plan["vllm"], plan["assumed"], plan["outcome"]) == ("0.10.1.1", "", "fits")
    assert plan["needed_bytes"] == 32000 * 262_144
    assert holds(plan["kv_tokens"], 271_360) and holds(plan["kv_cache"], 271_360 * 262_144)
    assert [profile["name"] for profile in plan["profiles"]] == ["one user", "many"]
    shown = run("preflight", "--no-config", "--prefix", str(patient), *argv)
    assert shown.returncode == 0
    assert "GB10, 121.70 GiB · budget 109.5 GiB at 0.90 · as vLLM 0.10.1.1 plans" in shown.stdout
    assert "  one user --max-model-len 40960 --max-num-seqs 1   40960 tokens" in shown.stdout


# --- RTX 3060, Qwen2.5-7B-Instruct-AWQ ----------------------------------------------------------------------

COMMAND = (
    "python3 -m vllm.entrypoints.openai.api_server --model {model} --quantization awq --kv-cache-dtype fp8 "
    "--max-model-len {length} --max-num-seqs {sequences} --gpu-memory-utilization 0.88 --enforce-eager "
    "--dtype auto --port 8000 --host 0.0.0.0"
)
FACTORY = """FROM nvidia/cuda:12.4.1-devel-ubuntu22.04
ENV HF_ENDPOINT={endpoint}
RUN pip install vllm
CMD ["python3", "-m", "vllm.entrypoints.openai.api_server", \\
     "--model", "Qwen/Qwen2.5-7B-Instruct-AWQ", \\
     "--quantization", "awq", \\
     "--kv-cache-dtype", "fp8",            # half the size \\
     "--max-model-len", "12288",           # long window, \\
     "--max-num-seqs", "2",                # low concurrency \\
     "--gpu-memory-utilization", "0.88", \\
     "--enforce-eager", \\
     "--dtype", "auto", "--port", "8000", "--host", "0.0.0.0"]
"""


@pytest.mark.parametrize(("length", "sequences"), [("12288", "2"), ("8192", "6")])
@pytest.mark.parametrize("version", ["0.9.2", "0.12.0", "0.33.0"])
def test_both_profiles_of_a_3060_fit(
    patient: Path, tmp_path: Path, version: str, length: str, sequences: str
) -> None:
    path = model(tmp_path, "Qwen/Qwen2.5-7B-Instruct-AWQ")
    command = COMMAND.format(model=path, length=length, sequences=sequences).split()
    plan = preflight(with_vllm(patient, version), "--gpu", "rtx-3060", "--", *command)["plan"]
    assert (plan["outcome"], plan["vllm"]) == ("fits", version)
    assert plan["concurrency"]["low"] >= int(sequences), "as many at once as it is planned for"


def test_a_dockerfile_whose_model_is_not_here_says_what_would_tell(patient: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "factory", "Dockerfile", FACTORY.format(endpoint="https://huggingface.co"))
    report = preflight(patient, "--gpu", "rtx-3060", "--dockerfile", path)
    assert "no JSON" in the(report, "command-misread")["summary"]
    outcome = said(report, "kv-cache-does-not-fit")
    assert outcome["outcome"] == "inconclusive"
    assert outcome["reason"].endswith("; --online asks the hub for it")
    assert report["plan"] is None


def test_the_hub_tells_what_a_dockerfile_s_model_needs(patient: Path, tmp_path: Path, hub: Hub) -> None:
    name = "Qwen/Qwen2.5-7B-Instruct-AWQ"
    hub.has(name, DEPLOYED[name], int(SIZES[name] * GIB))
    path = written(tmp_path / "factory", "Dockerfile", FACTORY.format(endpoint=hub.url))
    plan = preflight(patient, "--gpu", "rtx-3060", "--online", "--dockerfile", path)["plan"]
    assert (plan["outcome"], plan["max_model_len"]) == ("fits", 12288)
    assert plan["concurrency"]["low"] >= 2
    assert plan["assumed"] == (
        "which vLLM is in nvidia/cuda:12.4.1-devel-ubuntu22.04 is not known, and this is the newest"
    )


def test_the_release_that_is_assumed_is_said(patient: Path, tmp_path: Path) -> None:
    path = model(tmp_path, "Qwen/Qwen2.5-7B-Instruct-AWQ")
    argv = ("--gpu", "rtx-3060", "--", "vllm", "serve", str(path), "--max-model-len", "8192")
    ran = run("preflight", "--no-config", "--prefix", str(patient), *argv)
    (head,) = [line for line in ran.stdout.splitlines() if line.startswith("GPU memory")]
    assert head.endswith(" plans (no vLLM is installed here, and this is the newest)")
