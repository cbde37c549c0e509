"""Secrets that a launch is full of, and that no report of it may hold: people attach these to tickets."""

import json
import os
from pathlib import Path

import pytest

from cudadoctor.cli import main
from cudadoctor.redact import Redactor
from tests.canary_kinds import EACH, KINDS, Canary, canaries, leaked

from .test_check import BROKEN, patient, run

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


# --- 30 kinds and more, in everything that is read ----------------------------------------------------------

PLANTED = list(canaries())
#: Every way in which something is printed: the command, and the file of the launch that it is about.
#: LOG, REPORT and OTHER stand for files with all the secrets, FOLDER for one that is made; `--prefix` and the
#: home, which has the secrets in its own files, come from the test.
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("check", "--format", "json"),
    ("check", "--format", "text", "--verbose"),
    ("check", "--format", "markdown"),
    ("check", "--format", "junit"),
    ("check", "--format", "sarif"),
    ("check", "--facts", "REPORT", "--format", "json"),
    ("check", "--facts", "REPORT", "--verbose"),
    ("facts",),
    ("fix",),
    ("fix", "--format", "json"),
    ("fix", "--format", "script"),
    ("env",),
    ("run", "--dry-run", "--", "true"),
    ("preflight", "--format", "json", "--script", "SCRIPT"),
    ("preflight", "--format", "text", "--script", "SCRIPT"),
    ("preflight", "--format", "markdown", "--script", "SCRIPT"),
    ("preflight", "--format", "junit", "--script", "SCRIPT"),
    ("preflight", "--format", "sarif", "--script", "SCRIPT"),
    ("preflight", "--format", "json", "--compose", "COMPOSE"),
    ("preflight", "--format", "json", "--dockerfile", "DOCKERFILE"),
    ("explain", "LOG"),
    ("explain", "LOG", "--format", "json"),
    ("report",),
    ("report", "--log", "LOG"),
    ("report", "--show-masked"),
    ("report", "--output", "FOLDER"),
    ("diff", "REPORT", "OTHER"),
    ("diff", "REPORT", "OTHER", "--format", "json"),
    ("diff", "REPORT", "OTHER", "--format", "markdown"),
)
_WITHOUT_PREFIX = {"explain", "diff"}


def words(planted: list[Canary]) -> list[str]:
    """Return the texts as values of one line."""
    return [canary.text.replace("\n", "\\n") for canary in planted]


def variables(planted: list[Canary]) -> dict[str, str]:
    """Return variables that reports show, each with one of the texts in it."""
    texts = words(planted)
    return {f"VLLM_CANARY_{number}": text for number, text in enumerate(texts)} | {
        "FLASHINFER_EXTRA_LDFLAGS": f"-L/opt/x {texts[0]}", "CMAKE_ARGS": " ".join(texts[-5:]),
    }  # fmt: skip


def plant(prefix: Path, folder: Path, planted: list[Canary]) -> dict[str, str]:
    """Put the secrets into everything that is read; return the files that options name."""
    site = prefix / "lib/python3.11/site-packages"
    texts = words(planted)
    metadata = site / "torch-2.9.0+cu128.dist-info/METADATA"
    wanted = "".join(f"Requires-Dist: x{at} @ {text}\n" for at, text in enumerate(texts))
    metadata.write_text(metadata.read_text().rstrip("\n") + f"\n{wanted}\n")
    for at, canary in enumerate(planted):
        if "://" in canary.text:
            info = site / f"private{at}-1.0.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: private{at}\nVersion: 1.0\n\n")
            (info / "direct_url.json").write_text(json.dumps({"url": canary.text, "archive_info": {}}))
    conda = prefix / "conda-meta"
    conda.mkdir()
    (conda / "state").write_text(json.dumps({"env_vars": {"VLLM_STATE": " ".join(texts[:20])}}))
    lines = "\n".join(canary.text for canary in planted)
    files = {name: folder / name for name in ("LOG", "REPORT", "OTHER", "SCRIPT", "COMPOSE", "DOCKERFILE")}
    files["LOG"].write_text(f"{lines}\nImportError: libcudart.so.12: cannot open shared object file\n")
    quoted = [text for text in texts if "'" not in text and "\\" not in text]
    files["SCRIPT"].write_text(
        "".join(f"export VLLM_CANARY_{at}='{text}'\n" for at, text in enumerate(quoted))
        + f"# {texts[0]}\nvllm serve m --served-model-name {' '.join(repr(text) for text in quoted[:40])}\n"
    )
    environment = "".join(f"      VLLM_CANARY_{at}: {json.dumps(text)}\n" for at, text in enumerate(texts))
    files["COMPOSE"].write_text(
        "services:\n  vllm:\n    image: vllm/vllm-openai:v0.12.0\n    command: [--model, m]\n"
        f"    environment:\n{environment}".replace("$", "$$")
    )
    files["DOCKERFILE"].write_text(
        "FROM vllm/vllm-openai:v0.12.0\n"
        + "".join(f"ENV VLLM_CANARY_{at}={json.dumps(text)}\n" for at, text in enumerate(quoted))
        + 'ENTRYPOINT ["vllm", "serve", "m"]\n'
    )
    home = folder / "home"
    home.mkdir()
    for name in (".netrc", ".pgpass", ".config/pip/pip.conf"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(f"{lines}\n")
    reasons = json.dumps(" ".join(texts))
    (folder / "cudadoctor.toml").write_text(f"[suppress]\ncuda-home-wrong = {reasons}\n")
    return {name: str(path) for name, path in files.items()} | {"FOLDER": str(folder / "FOLDER")}


@pytest.fixture
def planted(patient: Path, tmp_path: Path) -> dict[str, str]:
    """Return the files of a patient that is full of secrets, two unredacted reports of it among them."""
    files = plant(patient, tmp_path, PLANTED)
    facts = run("facts", "--prefix", str(patient), environ={**BROKEN, "HOME": str(tmp_path / "home")}).stdout
    raw = json.loads(facts)
    raw["environ"]["variables"] |= {
        name: {"value": value, "origin": "environment"} for name, value in variables(PLANTED).items()
    }
    Path(files["REPORT"]).write_text(json.dumps(raw))
    raw["environ"]["variables"].pop("VLLM_CANARY_0")
    Path(files["OTHER"]).write_text(json.dumps(raw))
    return files


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_output_holds_one_of_the_secrets(
    patient: Path, tmp_path: Path, planted: dict[str, str], command: tuple[str, ...]
) -> None:
    argv = [planted.get(word, word) for word in command]
    if command[0] not in _WITHOUT_PREFIX and "--facts" not in command:
        argv[1:1] = ["--prefix", str(patient)]
    if command[0] in ("check", "preflight"):
        argv[1:1] = ["--config", str(tmp_path / "cudadoctor.toml")]
    # An `env` is for the user's own shell, and prints what this program sets, not what was there.
    environ = {**BROKEN, **variables(PLANTED), "HOME": str(tmp_path / "home")}
    ran = run(*argv, environ=environ, cwd=tmp_path)
    if "invalid choice" in ran.stderr:
        pytest.skip(f"there is no such option yet: {ran.stderr.splitlines()[-1]}")
    assert "Traceback" not in ran.stderr and ran.returncode in (0, 1), ran.stderr
    written = "".join(path.read_text() for path in (tmp_path / "FOLDER").rglob("*") if path.is_file())
    assert bool(written) == ("FOLDER" in command)
    assert leaked(ran.stdout + ran.stderr + written, PLANTED) == {}, "of these kinds so many were printed"


def test_enough_is_planted() -> None:
    assert len(KINDS) >= 30 and len(PLANTED) == len(KINDS) * EACH >= 200
    assert len({canary.parts for canary in PLANTED}) == len(PLANTED)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("thorough", [False, True], ids=["report", "log"])
def test_each_kind_is_masked_wherever_it_stands_in_a_text(kind: str, thorough: bool) -> None:
    missed = []
    for canary in (each for each in canaries(seed=1, each=20) if each.kind == kind):
        for form in ("{}", "see {} here", "(Worker pid=1) {}", "{}\nnext"):
            redactor = Redactor("", thorough=thorough)
            once = redactor.text(form.format(canary.text))
            if any(part in once for part in canary.parts) or redactor.masked.total == 0:
                missed.append(once)
            assert Redactor("", thorough=thorough).text(once) == once
    assert not missed


def verdicts_of(report: str) -> list[tuple[str, str, list[str]]]:
    """Return what was judged: the check, its outcome, and how grave each finding is.

    Not the words: a check that quotes a part of a text has quoted a part of the secret in it.
    """
    outcomes = json.loads(report)["outcomes"]
    return [(o["check"], o["outcome"], [f["severity"] for f in o["findings"]]) for o in outcomes]


def test_a_report_full_of_secrets_replays_to_the_same_verdicts(
    patient: Path, tmp_path: Path, planted: dict[str, str]
) -> None:
    environ = {**BROKEN, **variables(PLANTED)}
    options = ("--format", "json", "--no-config")
    first = run("check", "--prefix", str(patient), *options, environ=environ).stdout
    file = tmp_path / "first.json"
    file.write_text(first)
    again = run("check", "--facts", str(file), *options).stdout
    assert verdicts_of(again) == verdicts_of(first)
    assert json.loads(again)["facts"] == json.loads(first)["facts"]


NAMING = (
    ("check", "--format", "json"),
    ("check", "-v"),
    ("facts",),
    ("report",),
    ("fix", "--format", "json"),
)


@pytest.mark.parametrize("command", NAMING, ids=" ".join)
def test_no_output_names_the_machine(
    patient: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    command: tuple[str, ...],
) -> None:
    real = os.uname()
    named = os.uname_result((real.sysname, "adas-own-box", *real[2:]))
    monkeypatch.setattr(os, "uname", lambda: named)
    monkeypatch.setenv("CUDA_HOME", "/net/adas-own-box/cuda")
    assert main(
        [*command, "--prefix", str(patient), *(["--no-config"] if command != ("facts",) else [])]
    ) in (0, 1)
    said = "".join(capfd.readouterr())
    assert "/net/[host-1]/cuda" in said or command[0] == "fix"
    if command[0] != "check" or "json" in command:  # a command to copy is of use on this machine alone
        assert "adas-own-box" not in said
