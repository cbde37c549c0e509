from __future__ import annotations

import json
import shutil
import subprocess

import pytest
from msgspec import structs

from cudadoctor.facts import Launch, Note
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Outcome, Passed
from cudadoctor.testing import judge
from tests.launch.read import built, composed, scripted, typed

from .build import one, shown

FROM = "FROM nvidia/cuda:12.8.1-devel-ubuntu22.04\n"
WORDS = ["python3", "-m", "vllm.entrypoints.openai.api_server", "--model", "Qwen/Qwen2.5-7B-Instruct-AWQ"]
#: How a CMD looks like an array, and what /bin/sh makes of it.
NO_JSON = [
    ('["vllm", "serve", "m"]', ""),
    ('["vllm", "serve", "m", # four bits', "[vllm,"),
    ("['vllm', 'serve', 'm']", "[vllm,"),
    ('["vllm", "serve", "m",]', "[vllm,"),
    ('["vllm" "serve" "m"]', "[vllm"),
    ('[ "vllm", "serve", "m" # four bits', "["),
]


def look(launch: Launch) -> Outcome:
    return judge("command-misread", launch=launch)


def compose(command: str, length: str = "") -> Launch:
    text = f"services:\n  a:\n    image: vllm/vllm-openai:v0.12.0\n    command: {command}\n"
    return composed(text, {".env": f"LENGTH={length}\n"} if length else None)


def test_an_array_with_a_comment_is_no_json_and_comes_back_as_it_should_be() -> None:
    lines = f'{FROM}CMD ["python3", "-m", "vllm.entrypoints.openai.api_server", \\\n'
    finding = one(look(built(f'{lines}  "--model", "{WORDS[-1]}"]  # small \\\n\n')), Severity.ERROR)
    assert finding.summary == (
        "CMD is no JSON, so /bin/sh runs it as a text: the container ends at once with "
        '"[python3,: not found" (127)'
    )
    assert "/home/ada/Dockerfile:3: CMD looks like an array and is no JSON" in shown(finding)
    name, _, array = finding.remedies[0].summary.partition(" ")
    assert name == "CMD" and json.loads(array) == WORDS


@pytest.mark.parametrize(("text", "program"), NO_JSON)
def test_a_real_shell_ends_as_it_is_said(text: str, program: str) -> None:
    outcome = look(built(f"{FROM}CMD {text}\n"))
    if not program:
        assert isinstance(outcome, Passed)
        return
    shell = shutil.which("dash") or "/bin/sh"
    ended = subprocess.run([shell, "-c", text], capture_output=True, text=True, check=False)
    says = one(outcome, Severity.ERROR).summary
    if program == "[":
        assert ended.returncode == 2 and says.endswith("an error of the shell's own `[` (2)")
    else:
        assert ended.returncode == 127 and f"{program}: not found" in ended.stderr
        assert says.endswith(f'"{program}: not found" (127)')


def test_words_that_are_not_all_known_are_not_made_up() -> None:
    text = f"{FROM}CMD ['env', 'A=1', 'vllm', 'serve', 'm', '--api-key', 'x']\n"
    finding = one(look(built(text)), Severity.ERROR)
    assert finding.remedies[0].summary.startswith("CMD as JSON: double quotes")


def test_a_text_behind_an_entrypoint_does_not_start() -> None:
    finding = one(look(built("FROM vllm/vllm-openai:v0.12.0\nCMD --model m\n")), Severity.ERROR)
    assert finding.summary.startswith("vLLM will not start: ")
    assert finding.remedies[0].summary.startswith('CMD ["--model", ...]')


def test_an_array_that_is_no_json_behind_an_entrypoint_is_no_command_of_its_own() -> None:
    finding = one(look(built("FROM vllm/vllm-openai:v0.12.0\nCMD ['--model', 'm']\n")), Severity.ERROR)
    assert finding.summary.endswith("what is in front of it gets /bin/sh, -c and a text as arguments")
    assert finding.remedies[0].summary == 'CMD ["--model", "m"]'


def test_the_words_of_the_entrypoint_are_not_taken_for_those_of_the_instruction() -> None:
    finding = one(look(built("FROM vllm/vllm-openai:v0.20.0\nCMD ['vllm', 'serve', 'm']\n")), Severity.ERROR)
    assert finding.summary.endswith("what is in front of it gets /bin/sh, -c and a text as arguments")
    assert finding.remedies[0].summary == 'CMD ["m"]'


def test_an_entrypoint_that_is_no_json_comes_back_without_the_words_of_cmd() -> None:
    finding = one(look(built(f"{FROM}ENTRYPOINT ['vllm', 'serve']\nCMD [\"m\"]\n")), Severity.ERROR)
    assert finding.remedies[0].summary == 'ENTRYPOINT ["vllm", "serve"]'


@pytest.mark.parametrize("line", ["ssh host vllm serve m", "docker exec c vllm serve m", "docker compose up"])
def test_what_may_start_vllm_and_is_not_followed_is_a_note(line: str) -> None:
    one(look(typed(line)), Severity.NOTE)


def test_a_shells_entrypoint_takes_no_arguments() -> None:
    text = f'{FROM}ENTRYPOINT vllm serve m\nCMD ["--port", "8001"]\n'
    assert "CMD is not used" in one(look(built(text)), Severity.WARNING).summary


def test_a_variable_in_an_array_stays_as_it_is() -> None:
    finding = one(look(built(f'{FROM}CMD ["vllm", "serve", "$MODEL"]\n')), Severity.WARNING)
    assert finding.summary.startswith("$MODEL stays as it is")


def test_a_variable_that_compose_wants_is_named() -> None:
    finding = one(look(compose("--model ${MODEL:?name one}")), Severity.ERROR)
    assert finding.summary == "MODEL is not set, and compose ends there: name one"
    assert "compose.yaml:4: MODEL" in shown(finding)
    assert finding.remedies[0].summary.startswith("MODEL=... in .env")


def test_a_variable_that_is_set_nowhere_leaves_an_empty_place() -> None:
    finding = one(look(compose("--model m --max-model-len ${LENGTH}")), Severity.WARNING)
    assert finding.summary == "LENGTH is not set: compose puts an empty text in its place"
    assert isinstance(look(compose("--model m --max-model-len ${LENGTH}", "4096")), Passed)


def test_in_a_script_that_is_no_more_than_a_note() -> None:
    one(look(scripted("vllm serve m $EXTRA_ARGS\n")), Severity.NOTE)


def test_the_hubs_token_is_the_matter_of_another_check() -> None:
    assert isinstance(look(compose("--model m --hf-token ${HF_TOKEN}")), Passed)


def test_compose_reads_no_further_than_an_operator() -> None:
    finding = one(look(compose("--model m && echo done")), Severity.WARNING)
    assert "compose runs no shell" in finding.summary


def test_several_launches_and_what_is_not_followed_are_notes() -> None:
    finding = one(look(scripted("vllm serve a\nvllm serve b\n")), Severity.NOTE)
    assert finding.summary == "2 lines start vLLM: the first is read"


def test_what_a_file_names_and_nobody_can_read_is_told() -> None:
    missing = Note("/x/serve.sh: No such file or directory", "/home/ada/compose.yaml:4", "unreadable")
    launch = structs.replace(compose("--model m"), kind="other", notes=(missing,))
    assert "No such file" in one(look(launch), Severity.WARNING).summary


def test_is_silent_when_the_command_is_what_it_looks_like() -> None:
    assert isinstance(look(typed("vllm serve m --port 8001")), Passed)
    assert isinstance(look(built(f'{FROM}CMD ["vllm", "serve", "m"]\n')), Passed)


def test_is_silent_where_the_command_is_another() -> None:
    assert isinstance(look(typed("sleep 1")), Passed)
    assert isinstance(look(typed("bash /home/ada/missing.sh")), Passed)
