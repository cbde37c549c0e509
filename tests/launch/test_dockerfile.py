"""Dockerfiles: what the image of the last stage runs."""

from __future__ import annotations

import pytest

from cudadoctor.launch.texts import LaunchUnreadable
from tests.launch.read import built, noted, values, variables

BASE = "FROM nvidia/cuda:12.4.1-runtime-ubuntu22.04\n"


@pytest.mark.parametrize(
    "text",
    [
        BASE + 'CMD ["vllm", "serve", "m", "--port", "8000"]\n',
        BASE + "CMD vllm serve m --port 8000\n",
        BASE + 'CMD vllm serve m \\\n    # the port\n\n    --port 8000\n',
        BASE + 'ENTRYPOINT ["vllm", "serve"]\nCMD ["m", "--port", "8000"]\n',
        BASE + 'ENTRYPOINT ["tini", "--"]\nCMD exec vllm serve m --port 8000\n',
        BASE + 'CMD ["old"]\nCMD [ "vllm", \\\n  "serve",\\\n # comment\n  "m", "--port", "8000" ]\n',
        BASE + "ENV MODEL=m PORT=8000\nCMD vllm serve $MODEL --port ${PORT:-1}\n",
        BASE + 'CMD ["bash", "-c", "vllm serve m --port 8000"]\n',
        "FROM vllm/vllm-openai:v0.20.0\nCMD [\"m\", \"--port\", \"8000\"]\n",
        "FROM vllm/vllm-openai:v0.20.0 AS base\nCMD [\"x\"]\nFROM base\nCMD [\"m\", \"--port\", \"8000\"]\n",
        "ARG T=v0.20.0\nFROM --platform=a vllm/vllm-openai:${T}\nCMD [\"m\",\"--port\",\"8000\"]\n",
        "from scratch\nHEALTHCHECK CMD curl x\nRUN <<EOF\nCMD no\nEOF\ncmd vllm serve m --port 8000\n",
        "# escape=`\nFROM x\nCMD vllm serve m `\n  --port 8000\n",
    ],
)  # fmt: skip
def test_every_form_is_the_same_launch(text: str) -> None:
    launch = built(text)
    assert (launch.kind, launch.model, values(launch)) == ("vllm-serve", "m", {"--port": "8000"}), launch
    assert launch.clean and launch.container is not None


def test_each_word_is_told_with_its_line() -> None:
    launch = built(
        BASE + 'CMD ["vllm", "serve", "m", \\\n  # a comment\n  "--port", "8000", \\\n  "--headless"]\n'
    )
    assert launch.options["--port"].origin == "/home/ada/Dockerfile:4"
    assert launch.options["--headless"].origin == "/home/ada/Dockerfile:5"
    shell = built(BASE + "CMD vllm serve m \\\n  # a comment\n  --port 8000\n")
    assert shell.options["--port"].origin == "/home/ada/Dockerfile:4"


def test_variables_are_those_of_env_with_what_they_refer_to() -> None:
    text = (
        "ARG V=1\nFROM x\nARG V\nARG W=w$V\nENV A=$V B=\"b $W\" C='c $V' D=\\$V E=e\\ f\nENV OLD form of $A\n"
        "ENV G=${NONE:-g} H=${A:+h}\nWORKDIR /srv\nWORKDIR app\nUSER ada\nCMD vllm serve m\n"
    )
    launch = built(text)
    assert variables(launch) == {
        "A": "1", "B": "b w1", "C": "c 1", "D": "$V", "E": "e f", "OLD": "form of 1", "G": "g", "H": "h"
    }  # fmt: skip
    assert launch.folder == "/srv/app" and launch.container is not None and launch.container.user == "ada"
    assert launch.variables["OLD"].origin == "/home/ada/Dockerfile:6"


def test_a_stage_that_is_not_the_last_counts_only_where_the_last_is_made_of_it() -> None:
    text = "FROM a AS one\nENV A=1\nCMD vllm serve x\nFROM b\nCOPY --from=one / /\nCMD vllm serve m\n"
    assert (built(text).model, variables(built(text))) == ("m", {})
    later = built("FROM a AS one\nENV A=1\nCMD vllm serve x\nFROM one\nENV B=2\n")
    assert (later.model, variables(later), later.image) == ("x", {"A": "1", "B": "2"}, "a")


def test_a_new_entrypoint_takes_the_command_of_the_image_away() -> None:
    text = 'FROM a AS one\nCMD ["x"]\nFROM one\nENTRYPOINT ["vllm", "serve"]\n'
    assert built(text).model == ""
    assert built('FROM a\nCMD ["m"]\nENTRYPOINT ["vllm", "serve"]\n').model == "m"


def test_an_array_that_is_no_json_is_run_by_a_shell_and_said_so() -> None:
    text = (
        BASE + 'CMD ["vllm", "serve", "m", \\\n  "--max-num-seqs", "2", # few users \\\n  "--port", "8000"]\n'
    )
    launch = built(text)
    assert (launch.kind, launch.model, values(launch)) == (
        "vllm-serve", "m", {"--max-num-seqs": "2", "--port": "8000"}
    )  # fmt: skip
    (note,) = launch.notes
    assert (note.name, note.origin) == ("cmd-not-json", "/home/ada/Dockerfile:3")
    assert "(a comment stands in it): /bin/sh runs it" in note.text and "'[\"vllm\",'" in note.text
    single = built(BASE + "CMD ['vllm', 'serve', 'm']\n")
    assert (single.model, noted(single)) == ("m", {"cmd-not-json"})


def test_a_variable_in_an_array_stays_as_it_is() -> None:
    launch = built(BASE + 'ENV M=m\nCMD ["vllm", "serve", "$M"]\n')
    assert (launch.model, noted(launch)) == ("$M", {"variable-literal"})
    assert noted(built(BASE + 'ENV M=m\nCMD ["sh", "-c", "vllm serve $M"]\n')) == set()


def test_an_entrypoint_run_by_a_shell_takes_no_arguments() -> None:
    launch = built(BASE + 'ENTRYPOINT vllm serve m\nCMD ["--port", "1"]\n')
    assert (launch.model, launch.options, noted(launch)) == ("m", {}, {"cmd-ignored"})


def test_a_shell_s_command_for_an_image_with_an_entrypoint_is_told() -> None:
    assert noted(built("FROM vllm/vllm-openai:latest\nCMD vllm serve m\n")) == {"cmd-for-shell"}


def test_an_image_that_says_nothing_is_not_guessed_at() -> None:
    launch = built(BASE + "RUN pip install vllm\n")
    assert (launch.kind, noted(launch)) == ("other", {"not-followed"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no FROM in it, so this is no Dockerfile"),
        ("CMD x\n", ":1: CMD stands in front of FROM"),
        ("FROM x\nCDM vllm\n", ":2: 'CDM' is no instruction: did you mean 'CMD'?"),
        (
            'FROM x\nCMD ["vllm",\n  "serve"]\n',
            """:3: '"serve"]' is no instruction: does the line before it lack""",
        ),
        (
            'FROM x\nCMD ["vllm", "serve", "--port", 8000]\n',
            ":2: docker takes only texts in the array of CMD",
        ),
        ("FROM ${x\n", ":1: the ${ is never closed"),
        ("FROM\n", ":1: FROM names no image"),
        ("FROM x\nCMD vllm serve 'm\n", ":2: the ' is never closed"),
        ("FROM x\nCMD vllm \0 serve\n", ":2: holds a NUL byte"),
    ],
)
def test_what_cannot_be_built_is_one_line(text: str, said: str) -> None:
    with pytest.raises(LaunchUnreadable) as error:
        built(text)
    assert str(error.value).startswith("/home/ada/Dockerfile") and said in str(error.value)
    assert "\n" not in str(error.value)
