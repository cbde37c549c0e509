"""Secrets that a launch is full of, and that no report of it may hold: people attach these to tickets."""

import json
from pathlib import Path

import pytest

from .test_check import patient, run

__all__ = ["patient"]
FORMATS = ("json", "text", "markdown")


class Canaries:
    """Numbered values that look like nothing, so that only their places give them away."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> str:
        self.count += 1
        return f"canary{self.count}x"


def escaped(**values: object) -> str:
    return json.dumps(values)


def command(new: Canaries) -> list[str]:
    return [
        f"HF_TOKEN={new()}", f"MYSECRET={new()}", f"OPENAIKEY={new()}", "vllm", "serve", "m",
        "--api-key", new(), "--api-key", new(), f"--api-key={new()}", "--hf-token", new(),
        "--ssl-keyfile-password", new(), "--ray-secret", new(), f"--my-password={new()}",
        "--model-loader-extra-config", escaped(aws_secret_access_key=new(), inner={"api_key": new()}),
        f"--hf-overrides={escaped(token=new(), inner=escaped(secret=new()))}",
        "--hf-overrides.auth_token", new(), "--limit-mm-per-prompt", f'{{"password": "{new()}"',
    ]  # fmt: skip


def docker(new: Canaries) -> list[str]:
    return [
        "docker", "run", "-e", f"DBPASS={new()}", "-e", f"MY_PW={new()}", f"--env=PASSW={new()}",
        f"-eHF_TOKEN={new()}", "vllm/vllm-openai:v0.12.0", "--model", "m", "--api-key", new(),
    ]  # fmt: skip


def other(new: Canaries) -> list[str]:
    return [
        "curl",
        "-H",
        f"Authorization: Bearer {new()}",
        "-H",
        f"X-Api-Key: {new()}",
        "-u",
        f"ada:{new()}",
        "h",
    ]


def script(new: Canaries) -> str:
    return f"""#!/bin/bash
export HF_TOKEN={new()} DB_PASSWORD='two {new()}'
KEY={new()}
ARGS="--api-key $KEY --served-model-name m"
MYSECRET={new()} vllm serve m $ARGS --api-key {new()} --hf-overrides '{escaped(client_secret=new())}'
"""


def compose(new: Canaries) -> str:
    return f"""services:
  vllm:
    image: vllm/vllm-openai:v0.12.0
    environment:
      HF_TOKEN: {new()}
      DBPASS: "{new()}"
      FROM_FILE_SECRET: ${{INNER_SECRET}}
    command: ["--model", "m", "--api-key", "{new()}", "--ray-secret", "{new()}"]
"""


def dockerfile(new: Canaries) -> str:
    return f"""FROM vllm/vllm-openai:v0.12.0
ENV HF_TOKEN={new()} MY_PW={new()}
ENTRYPOINT ["sh", "-c", "WANDB_API_KEY={new()} vllm serve m --api-key {new()}"]
"""


def python(new: Canaries) -> str:
    return f"""import os
from vllm import LLM
os.environ["HF_TOKEN"] = "{new()}"
llm = LLM(model="m", hf_token="{new()}", my_secret="{new()}", hf_overrides={{"api_key": "{new()}"}},
          model_loader_extra_config={{"a": {{"aws_secret_access_key": "{new()}"}}}})
"""


def launches(path: Path, new: Canaries) -> dict[str, list[str]]:
    """Return the options of preflight for each way in which a launch is written."""
    for name, text in (
        ("run.sh", script(new)), ("run.py", python(new)), ("Dockerfile", dockerfile(new)),
        ("compose.yml", compose(new)), (".env", f"INNER_SECRET={new()}\nUNUSED_TOKEN={new()}\n"),
    ):  # fmt: skip
        (path / name).write_text(text)
    return {
        "command": ["--", *command(new)],
        "docker": ["--", *docker(new)],
        "other": ["--", *other(new)],
        "script": ["--script", str(path / "run.sh")],
        "python": ["--script", str(path / "run.py")],
        "compose": ["--compose", str(path / "compose.yml")],
        "dockerfile": ["--dockerfile", str(path / "Dockerfile")],
    }


@pytest.mark.parametrize("form", FORMATS)
def test_no_report_of_a_launch_holds_a_secret(patient: Path, tmp_path: Path, form: str) -> None:
    new = Canaries()
    for name, argv in launches(tmp_path, new).items():
        options = (
            "preflight",
            "--no-config",
            "--prefix",
            str(patient),
            "--gpu",
            "rtx-3090",
            "--format",
            form,
        )
        ran = run(*options, *argv, environ={"OWN_SECRET": new()})
        assert ran.returncode in (0, 1), (name, ran.stderr)
        assert "canary" not in ran.stdout + ran.stderr, (name, ran.stdout)
        if form == "json" and name != "other":
            assert json.loads(ran.stdout)["facts"]["launch"]["model"] == "m", name
    assert new.count >= 40
