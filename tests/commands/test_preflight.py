"""`cudadoctor preflight` as its user meets it: real processes on a folder with a real config.json."""

import json
from pathlib import Path

import pytest

from tests.simulate.models import QWEN25_32B

from .test_check import patient, run

__all__ = ["patient"]
AWQ = {"bits": 4, "group_size": 128, "quant_method": "awq", "version": "gemm", "zero_point": True}


@pytest.fixture
def model(tmp_path: Path) -> str:
    """Return a folder with the config of Qwen2.5-32B-Instruct-AWQ, and nothing else."""
    folder = tmp_path / "model"
    folder.mkdir()
    config = {**QWEN25_32B, "architectures": ["Qwen2ForCausalLM"], "quantization_config": AWQ}
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def test_a_launch_that_cannot_fit_is_drawn_and_told(patient: Path, model: str) -> None:
    command = ("vllm", "serve", model, "--max-model-len", "4096", "--gpu-memory-utilization", "0.75")
    options = ("preflight", "--no-config", "--prefix", str(patient), "--gpu", "rtx-3090")
    ran = run(*options, "--", *command)
    assert (ran.returncode, ran.stderr) == (1, "")
    lines = ran.stdout.splitlines()
    (head,) = [number for number, line in enumerate(lines) if line.startswith("GPU memory")]
    assert "RTX 3090, 23.58 GiB" in lines[head] and "budget 17.7 GiB at 0.75" in lines[head]
    weights, overhead, cache = lines[head + 1 : head + 4]
    assert weights.strip().startswith("weights") and weights.endswith("over budget")
    assert "activations" in overhead and cache.split()[-6:] == [
        "none",
        "4096",
        "tokens",
        "need",
        "1.0",
        "GiB",
    ]
    assert "kv-cache-does-not-fit" in ran.stdout and "--gpu-memory-utilization 0.9" in ran.stdout


def test_the_report_replays_with_the_same_verdict(patient: Path, model: str, tmp_path: Path) -> None:
    options = ("preflight", "--no-config", "--prefix", str(patient), "--gpu", "rtx-3090", "--format", "json")
    first = run(*options, "--", "vllm", "serve", model, "--max-model-len", "32768")
    saved = tmp_path / "report.json"
    saved.write_text(first.stdout)
    second = run("check", "--facts", str(saved), "--format", "json", "--no-config")

    def verdict(text: str) -> object:
        told = json.loads(text)["outcomes"]
        return next(each for each in told if each["check"] == "kv-cache-does-not-fit")["findings"]

    assert verdict(first.stdout) == verdict(second.stdout) != []


def test_a_plan_for_nothing_of_vllm_s_looks_at_no_card_model_or_port(patient: Path) -> None:
    ran = run(
        "preflight", "--no-config", "--prefix", str(patient), "--format", "json", "--", "python", "train.py"
    )
    facts = json.loads(ran.stdout)["facts"]
    told = {facts[name]["reason"] for name in ("card", "model", "resources", "paths")}
    assert told == {"the command is no launch of vLLM"} and facts["launch"]["kind"] == "other"


def test_another_command_gets_the_environment_s_checks_alone(patient: Path) -> None:
    ran = run("preflight", "--no-config", "--prefix", str(patient), "--", "python", "train.py")
    assert "GPU memory" not in ran.stdout and "kv-cache" not in ran.stdout and ran.returncode in (0, 1)


@pytest.mark.parametrize(
    "argv",
    [
        (), ("--gpu", "rtx-309", "--", "vllm"), ("--gpu-memory", "0GiB", "--", "vllm"),
        ("--count", "0", "--", "x"), ("--gpu-memory", "much", "--", "x"),
        ("--compute-capability", "8", "--", "x"),
        ("--compose", "/nowhere/compose.yml"), ("--dockerfile", "/etc/passwd"), ("--script", "/nowhere", "x"),
        ("--compose", "/nowhere", "a", "b"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_line(patient: Path, argv: tuple[str, ...]) -> None:
    ran = run("preflight", "--no-config", "--prefix", str(patient), *argv)
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (2, "", 1), ran
