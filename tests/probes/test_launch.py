"""The launch as a section: what it keeps, and what it keeps to itself."""

import msgspec
import pytest

from cudadoctor.facts import Environ, Launch, Packages, Target
from cudadoctor.host import RealHost
from cudadoctor.probes.launch import probe
from cudadoctor.probes.target import Asked, Request

TARGET = Target("/v", "venv", "/v/bin/python", "3.12", "/usr", (), "", "--prefix", True)


def look(*argv: str) -> Launch:
    request = Request(launch=Asked(argv))
    return probe(RealHost({}), request, TARGET, Environ({}, "the current variables", (), "/"), Packages(()))


@pytest.mark.parametrize(
    "argv",
    [
        ("vllm", "serve", "m", "--api-key", "canary-1"),
        ("vllm", "serve", "m", "--api-key=canary-1"),
        ("vllm", "serve", "m", "--hf-token", "canary-1"),
        ("HF_TOKEN=canary-1", "vllm", "serve", "m"),
        ("env", "VLLM_API_KEY=canary-1", "MY_SECRET=canary-2", "vllm", "serve", "m"),
        ("docker", "run", "-e", "HF_TOKEN=canary-1", "vllm/vllm-openai:v0.12.0", "--model", "m"),
        (
            "docker",
            "run",
            "-e",
            "MY_PW=canary-1",
            "-eDBPASS=canary-2",
            "vllm/vllm-openai:v0.12.0",
            "--model",
            "m",
        ),
        ("vllm", "serve", "m", "--api-key", "canary-1", "--api-key", "canary-2"),
        ("vllm", "serve", "m", "--hf-overrides", '{"token": "canary-1", "a": {"api_key": "canary-2"}}'),
        ("vllm", "serve", "m", "--hf-overrides.token", "canary-1"),
        ("vllm", "serve", "m", "--ssl-keyfile-password", "canary-1", "--ray-secret=canary-2"),
        ("MYSECRET=canary-1", "ARGS=--api-key canary-2", "vllm", "serve", "m"),
    ],
)
def test_no_secret_of_a_command_is_kept(argv: tuple[str, ...]) -> None:
    launch = look(*argv)
    assert launch.model == "m" and b"canary" not in msgspec.json.encode(launch)


def test_numbers_of_tokens_and_what_is_empty_stay() -> None:
    launch = look("HF_TOKEN=", "MAX_TOKENS=512", "vllm", "serve", "m", "--max-num-batched-tokens", "8192")
    assert launch.integer("--max-num-batched-tokens") == 8192
    assert (launch.variables["HF_TOKEN"].value, launch.variables["MAX_TOKENS"].value) == ("", "512")


def test_what_leads_to_a_secret_stays() -> None:
    launch = look("HF_TOKEN_PATH=/run/token", "vllm", "serve", "m", "--ssl-keyfile", "/k.pem")
    assert launch.variables["HF_TOKEN_PATH"].value == "/run/token"
    assert launch.text("--ssl-keyfile") == "/k.pem"


def test_json_keeps_its_form_and_a_launch_without_secrets_all_its_words() -> None:
    launch = look("vllm", "serve", "m", "--hf-overrides", '{"token": "x1", "rope": {"factor": 4.0}}')
    assert msgspec.json.decode(launch.text("--hf-overrides") or "") == {
        "token": "[secret]",
        "rope": {"factor": 4.0},
    }
    argv = ("vllm", "serve", "m", "--hf-overrides", '{"rope":{"factor":4.0}}', "--tokenizer", "a b", "-O.x=1")
    assert look(*argv).argv == argv


def test_another_command_s_header_is_masked() -> None:
    launch = look("curl", "-H", "Authorization: Bearer canary", "http://h:80")
    assert launch.argv == ("curl", "-H", "Authorization: Bearer [secret]", "http://h:80")
