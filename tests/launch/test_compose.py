"""Compose files: what a service runs and what its container is given."""

from __future__ import annotations

import pytest

from cudadoctor.launch.compose import split
from cudadoctor.launch.texts import LaunchUnreadable
from tests.launch.read import composed, noted, small, values, variables

ONE = "services:\n  a:\n    image: x\n    "
SERVE = """
services:
  vllm:
    image: vllm/vllm-openai:v0.20.0
    command: --model m --port 8000
"""


@pytest.mark.parametrize(
    "text",
    [
        SERVE.replace("--model m", "m"),
        "services:\n  a:\n    image: x\n    command: vllm serve m --port 8000\n",
        "services: {a: {image: x, command: [vllm, serve, m, --port, '8000']}}",
        ONE + 'entrypoint: vllm serve\n    command:\n      - m\n      - --port\n      - "8000"\n',
        "services:\n  a:\n    image: x\n    command: >\n      vllm serve m\n      --port 8000\n",
        'services:\n  a:\n    image: x\n    command: bash -c "vllm serve m --port 8000"\n',
        ONE.replace(" x", " vllm/vllm-openai") + "entrypoint: []\n    command: vllm serve m --port 8000\n",
        "x-all: &all\n  image: x\n  command: vllm serve m --port ${P:-8000}\nservices:\n  a:\n    <<: *all\n",
        "services:\n  db: {image: postgres}\n  a: {image: x, command: vllm serve m --port 8000}\n",
        ONE + "command: sh -c 'vllm serve $$M --port 8000'\n    environment: [M=m]\n",
    ],
)
def test_every_form_is_the_same_launch(text: str) -> None:
    launch = composed(text)
    assert (launch.kind, launch.model, values(launch)) == ("vllm-serve", "m", {"--port": "8000"}), launch


def test_variables_come_from_the_caller_and_then_from_env_beside_the_file() -> None:
    text = """
services:
  vllm:
    image: vllm/vllm-openai:${TAG}
    command: ["${MODEL:-m}", "--max-model-len", "${LLM_MAX_MODEL_LEN}"]
    env_file: [a.env, {path: gone.env, required: false}]
    environment:
      HF_TOKEN: ${HF_TOKEN}
      A:
      B: 1
      GONE:
"""
    files = {".env": "TAG=v0.14.0\nLLM_MAX_MODEL_LEN=12288 # tokens\nA='a'\n", "a.env": 'C="c $TAG"\nB=0\n'}
    launch = composed(text, files, LLM_MAX_MODEL_LEN="4096")
    assert (launch.image, launch.model, launch.integer("--max-model-len")) == (
        "vllm/vllm-openai:v0.14.0",
        "m",
        4096,
    )
    assert variables(launch) == {"C": "c v0.14.0", "B": "1", "HF_TOKEN": "", "A": "a"}
    assert launch.variables["C"].origin == "/home/ada/a.env:1"
    assert launch.variables["HF_TOKEN"].origin == "/home/ada/compose.yaml:8"
    assert noted(launch) == {"variable-empty", "variable-absent"}
    assert any(note.text.startswith("HF_TOKEN is not set: compose") for note in launch.notes)


def test_what_the_container_is_given_is_told() -> None:
    text = """
services:
  vllm:
    image: vllm/vllm-openai
    command: m
    shm_size: 8gb
    ipc: host
    network_mode: host
    runtime: nvidia
    user: "1000"
    working_dir: /srv
    platform: linux/arm64
    ports: ["127.0.0.1:8000:8000", {published: 9000, target: 8001}, "7000"]
    volumes:
      - ./models:/models:ro
      - ~/.cache:/root/.cache
      - {type: bind, source: /hf, target: /hf, read_only: true}
      - named:/n
    deploy:
      resources:
        limits: {memory: 32g}
        reservations:
          devices:
            - {driver: nvidia, count: 2, capabilities: [gpu]}
"""
    container = composed(text).container
    assert container is not None
    assert (container.service, container.shm_size, container.ipc, container.network) == (
        "vllm",
        "8gb",
        "host",
        "host",
    )
    assert (container.memory, container.gpus, container.runtime, container.user) == (
        "32g",
        "2",
        "nvidia",
        "1000",
    )
    assert [(p.host, p.container) for p in container.ports] == [
        ("8000", "8000"),
        ("9000", "8001"),
        ("", "7000"),
    ]
    assert [(m.source, m.target, m.read_only) for m in container.mounts] == [
        ("/home/ada/models", "/models", True),
        ("/home/ada/.cache", "/root/.cache", False),
        ("/hf", "/hf", True),
        ("named", "/n", False),
    ]
    assert composed(text).folder == "/srv"


@pytest.mark.parametrize(
    ("asked", "gpus"),
    [
        ("gpus: all", "all"),
        ("deploy: {resources: {reservations: {devices: [{device_ids: ['0', '3'], capabilities: [gpu]}]}}}",
         "device=0,3"),
        ("deploy: {resources: {reservations: {devices: [{capabilities: [gpu]}]}}}", "all"),
        ("deploy: {resources: {reservations: {devices: [{capabilities: [tpu]}]}}}", ""),
        ("deploy: {}", ""),
    ],
)  # fmt: skip
def test_the_gpus_are_those_that_are_asked_for(asked: str, gpus: str) -> None:
    container = composed(f"services:\n  a:\n    image: x\n    command: vllm serve m\n    {asked}\n").container
    assert container is not None and container.gpus == gpus


def test_an_image_that_is_built_here_runs_what_its_dockerfile_says() -> None:
    files = {
        "app/Dockerfile.gpu": 'FROM y\nARG M=x\nENV MODEL=$M\nENTRYPOINT ["vllm", "serve"]\nCMD ["$M"]\n'
    }
    build = "{context: ./app, dockerfile: Dockerfile.gpu, args: {M: m}}"
    text = f"services:\n  a:\n    build: {build}\n    command: [m, --headless]\n"
    launch = composed(text, files)
    assert (launch.model, values(launch), variables(launch)) == ("m", {"--headless": "True"}, {"MODEL": "m"})
    plain = composed("services: {a: {build: .}}", {"Dockerfile": "FROM x\nCMD vllm serve m\n"})
    assert (plain.model, plain.image) == ("m", "x")


def test_a_service_is_named_where_it_must_be() -> None:
    two = "services:\n  a: {image: x, command: vllm serve m}\n  b: {image: x, command: vllm serve n}\n"
    with pytest.raises(LaunchUnreadable, match=r"several services \(a, b\) start vLLM: name one"):
        composed(two)
    assert composed(two, service="b").model == "n"
    with pytest.raises(LaunchUnreadable, match="no service is called 'c'"):
        composed(two, service="c")


def test_what_is_not_followed_is_noted() -> None:
    launch = composed("services: {a: {extends: {file: b.yaml, service: b}, image: x, command: vllm serve m}}")
    assert noted(launch) == {"not-followed"}
    more = composed("include: [b.yaml]\n" + SERVE, {"compose.override.yml": ""})
    assert [note.text for note in more.notes] == [
        "`include` is not followed", "compose.override.yml beside it is not read"
    ]  # fmt: skip
    required = composed("services: {a: {image: x, command: 'vllm serve ${M:?name one}'}}")
    assert [(n.name, n.text) for n in required.notes] == [
        ("variable-required", "M is not set, and compose ends there: name one")
    ]


def test_no_shell_runs_a_command_of_compose() -> None:
    launch = composed("services: {a: {image: x, command: vllm serve m && echo done}}")
    assert (launch.model, noted(launch)) == ("m", {"operator-in-command"})
    folded = "services:\n  a:\n    image: x\n    command: >\n      vllm serve m \\\n      --port 8000\n"
    assert (values(composed(folded)), noted(composed(folded))) == (
        {"--port": "8000"},
        {"backslash-in-command"},
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a 'b c' \"d e\"", ["a", "b c", "d e"]),
        ("a\\ b \"\" ''", ["a b", "", ""]),
        ('\'{"a": 1}\' x="y z"', ['{"a": 1}', "x=y z"]),
    ],
)
def test_a_text_is_split_into_words(text: str, words: list[str]) -> None:
    assert split(text, "x:1") == (words, "")


def test_the_options_tell_what_takes_a_value_in_a_container_too() -> None:
    launch = composed("services: {a: {image: x, command: vllm serve --enforce-eager m}}", known=small())
    assert (launch.model, launch.refused, launch.options_from) == ("m", (), "")


BASE = """
services:
  base:
    image: vllm/vllm-openai:v0.20.0
    command: [m, --port, "1"]
    environment: [A=1, B=2, C]
    shm_size: 1g
    volumes: ["./a:/m", "/b:/b"]
    deploy: {resources: {limits: {memory: 1g}}}
  vllm:
    extends: base
    environment: {B: 3}
    volumes: ["./c:/m"]
"""


def test_a_service_that_extends_another_is_put_together_with_it() -> None:
    for how in ("base", "{service: base}"):
        launch = composed(BASE.replace("extends: base", f"extends: {how}"), service="vllm", C="4")
        assert (launch.model, values(launch), variables(launch)) == (
            "m", {"--port": "1"}, {"A": "1", "B": "3", "C": "4"}
        )  # fmt: skip
        container = launch.container
        assert container is not None and (container.shm_size, container.memory) == ("1g", "1g")
        assert [mount.source for mount in container.mounts] == ["/b", "/home/ada/c"]
    replaced = composed(BASE + "    command: n --port 2\n", service="vllm")
    assert (replaced.model, values(replaced)) == ("n", {"--port": "2"})


def test_a_service_of_another_file_is_followed_with_its_lines() -> None:
    text = "services:\n  a:\n    extends: {file: base.yml, service: base}\n    shm_size: 2g\n"
    launch = composed(text, {"base.yml": BASE})
    assert launch.options["--port"].origin == "/home/ada/base.yml:5"
    assert launch.container is not None and launch.container.shm_size == "2g"


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("{file: gone.yml, service: base}", "/home/ada/gone.yml: No such file"),
        ("{file: ../base.yml, service: base}", "into another folder: ../base.yml"),
        ("vllm", "`extends` is not followed"),
        ("none", "no service is called 'none'"),
        ("[]", "`extends` is not followed"),
    ],
)
def test_what_is_not_extended_is_told_without_holes(how: str, said: str) -> None:
    launch = composed(
        BASE.replace("extends: base", f"extends: {how}") + "    command: --model m\n", service="vllm"
    )
    assert said in launch.notes[0].text and launch.partial
    assert not any("  " in note.text for note in launch.notes)
