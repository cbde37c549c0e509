"""The arguments as vLLM's parser takes them: Python's own argparse is the judge of the parsing."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cudadoctor.launch.arguments import parse
from cudadoctor.launch.texts import Word
from tests.launch.read import noted, small, typed, values


def refused(line: str) -> list[tuple[str, str, str]]:
    return [
        (each.name, each.why, each.nearest) for each in typed(f"vllm serve m {line}", known=small()).refused
    ]


def taken(line: str) -> dict[str, str]:
    launch = typed(f"vllm serve m {line}", known=small())
    assert launch.refused == (), launch.refused
    return values(launch)


def test_names_are_taken_in_every_form_of_the_parser() -> None:
    assert taken("--max_model_len=4096 -tp 2 -q awq") == {
        "--max-model-len": "4096", "--tensor-parallel-size": "2", "--quantization": "awq"
    }  # fmt: skip
    assert taken("--max-model 4096") == {"--max-model-len": "4096"}
    assert taken("--no-enable-prefix-caching --enforce-eager") == {
        "--enable-prefix-caching": "False", "--enforce-eager": "True"
    }  # fmt: skip
    assert taken("-O3") == taken("-O 3") == taken("-O=3") == {"--optimization-level": "3"}


def test_dotted_names_become_one_json_text() -> None:
    line = "--hf-overrides.rope_scaling.type yarn --hf_overrides.rope_scaling.factor=4.0"
    line += " --hf-overrides.a+ x,y -cc.level 3"
    found = taken(line)
    assert json.loads(found["--hf-overrides"]) == {
        "rope_scaling": {"type": "yarn", "factor": 4.0},
        "a": ["x", "y"],
    }
    assert json.loads(found["--compilation-config"]) == {"level": 3}
    assert json.loads(taken("-O.level=3")["--compilation-config"]) == {"level": 3}


def test_the_last_of_two_counts_but_for_those_that_are_gathered() -> None:
    assert taken("--port 1 --port 2 --middleware a --middleware b") == {"--port": "2", "--middleware": "a b"}


def test_an_option_that_takes_several_takes_all_up_to_the_next() -> None:
    assert taken("--api-key a b c --port 1")["--api-key"] == "a b c"
    assert taken("--hf-token --port 1")["--hf-token"] == "True"
    assert taken("--hf-token x")["--hf-token"] == "x"


def test_what_this_version_does_not_have_is_unknown_with_the_nearest() -> None:
    assert refused("--use-v2-block-manager") == [("--use-v2-block-manager", "unknown", "")]
    assert refused("--max-model-lenght 1") == [("--max-model-lenght", "unknown", "--max-model-len")]
    assert refused("--disable-log-requests") == [
        ("--disable-log-requests", "unknown", "--no-enable-log-requests")
    ]
    assert refused("--gpu-memory-utilisation=0.9") == [
        ("--gpu-memory-utilisation", "unknown", "--gpu-memory-utilization")
    ]


def test_an_abbreviation_that_fits_several_is_ambiguous() -> None:
    (found,) = typed("vllm serve m --max-num 4", known=small()).refused
    assert (found.why, found.choices) == ("ambiguous", ("--max-num-batched-tokens", "--max-num-seqs"))


@pytest.mark.parametrize(
    ("line", "why", "expects"),
    [
        ("--kv-cache-dtype fp8_e6m1", "choice", ""),
        ("--block-size 12", "choice", ""),
        ("--max-num-seqs many", "number", "a whole number"),
        ("--max-model-len 4.5", "number", "a whole number, or 32k, or 32K"),
        ("--gpu-memory-utilization 90%", "number", "a number"),
        ("--gpu-memory-utilization 1.5", "range", "> 0, <= 1"),
        ("--max-num-seqs 0", "range", ">= 1"),
        ("--hf-overrides {a:1}", "json", "JSON, in quotes of the shell"),
        ("--port", "values", "a value"),
        ("--enforce-eager=true", "values", "no value: its name alone turns it on"),
        ("stray", "values", "no further word without an option"),
        ("--config", "config", "the name of a file"),
        ("--config x.json", "config", "a file called .yaml or .yml"),
    ],
)
def test_a_value_that_it_refuses_is_told_with_what_it_takes(line: str, why: str, expects: str) -> None:
    (found,) = typed(f"vllm serve m {line}", known=small()).refused
    assert (found.why, found.expects) == (why, expects)
    assert found.choices or why != "choice"


@pytest.mark.parametrize(
    "line",
    ["--max-model-len 32k", "--max-model-len 32K", "--max-num-batched-tokens 8192", "--quantization anything",
     "--gpu-memory-utilization 1", "--gpu-memory-utilization .9", "--block-size 16", "--max-model-len None",
     "--hf-overrides '{\"a\": 1}'", "--kv-cache-dtype fp8_e5m2", "--served-model-name a", "--help"],
)  # fmt: skip
def test_what_it_takes_is_never_refused(line: str) -> None:
    assert refused(line) == []


def test_the_model_is_the_first_word_or_the_option() -> None:
    for line in (
        "a --port 1",
        "--port 1 a",
        "--headless a",
        "--model a",
        "--enforce-eager --model=a --port 1",
    ):
        assert typed(f"vllm serve {line}", known=small()).model == "a"
    assert typed("vllm serve --headless a").model == "a"


def test_without_a_vllm_an_option_takes_what_its_name_lets_expect() -> None:
    launch = typed(
        "vllm serve --enable-lora --trust-remote-code m --lora-modules a=b c=d --no-x --port 1 -tp 2"
    )
    assert (launch.model, launch.refused, launch.options_from) == ("m", (), "")
    assert values(launch) == {
        "--enable-lora": "True", "--trust-remote-code": "True", "--lora-modules": "a=b c=d", "--x": "False",
        "--port": "1", "--tensor-parallel-size": "2",
    }  # fmt: skip


# --- against argparse ---------------------------------------------------------------------------------------


def argparsed(arguments: list[str]) -> dict[str, Any] | None:
    """Return what Python's argparse makes of the arguments, with the small vLLM's options; None: an error."""
    options, parser = small(), argparse.ArgumentParser(add_help=False)
    parser.add_argument("model_tag", nargs="?")
    for name in {option.name for string in options if (option := options.get(string))}:
        option = options.get(name)
        assert option is not None
        names = [each for each in option.names if each not in option.off]
        if option.off:
            parser.add_argument(*names, action=argparse.BooleanOptionalAction, default=None)
        elif option.nargs == 0:
            parser.add_argument(*names, action="store_true", default=None)
        elif option.appends:
            parser.add_argument(*names, action="append")
        else:
            parser.add_argument(*names, nargs=option.nargs)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            return {
                name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None
            }
    except SystemExit:
        return None


PIECES = st.sampled_from(
    [
        "--port", "--port=1", "8000", "-tp", "-tp=2", "-q", "--headless", "--enforce-eager",
        "--no-enforce-eager", "--api-key", "a", "b", "--hf-token", "--max-model", "--max-num-seqs",
        "--middleware", "-1", "--quantization=x", "--served-model-name", "--unknown", "--enforce",
        "--no-enf", "a b", "--max-num", "", "-", "-x",
    ]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES, max_size=7))
def test_any_arguments_are_taken_as_argparse_takes_them(pieces: list[str]) -> None:
    theirs = argparsed(pieces)
    ours = parse([Word(piece) for piece in pieces], small())
    failed = len(ours.operands) > 1 or any(
        each.why in ("unknown", "ambiguous", "values") for each in ours.refused
    )  # what a value must be like is not argparse's matter here
    assert failed == (theirs is None), (ours, theirs)
    if theirs is None:
        return
    mine: dict[str, Any] = {}
    for name, held in ours.options.items():
        option = small().get(name)
        assert option is not None
        key = name[2:].replace("-", "_")
        if option.nargs == 0:
            mine[key] = held.values[0] == "True"
        elif option.nargs == "+" or option.appends:
            mine[key] = list(held.values)
        elif option.nargs == "?" and held.values == ("True",) and theirs.get(key) is None:
            continue
        else:
            mine[key] = held.values[0]
    if ours.operands:
        mine["model_tag"] = ours.operands[0].text
    assert mine == theirs


# --- the config file ----------------------------------------------------------------------------------------

CONFIG = """
model: m
max_model_len: 8192   # underscores
gpu-memory-utilization: 0.90
trust-remote-code: true
enforce-eager: false
served-model-name: [a, b]
kv-cache-dtype: fp8_e9
"""


def test_a_config_file_stands_in_front_of_the_command_line() -> None:
    launch = typed("vllm serve --config ~/c.yaml --max-model-len 4096", {"c.yaml": CONFIG}, known=small())
    assert launch.model == "m" and launch.model_origin == "/home/ada/c.yaml:2"
    assert values(launch)["--max-model-len"] == "4096"
    assert launch.options["--gpu-memory-utilization"].origin == "/home/ada/c.yaml:4"
    assert values(launch)["--served-model-name"] == "a b" and launch.flag("--trust-remote-code") is True
    (found,) = launch.refused
    assert (found.why, found.origin, found.value, found.nearest) == (
        "choice", "/home/ada/c.yaml:8", "fp8_e9", "fp8_e5m2"
    )  # fmt: skip


def test_the_model_of_the_command_line_comes_before_that_of_the_file() -> None:
    assert typed("vllm serve x --config ~/c.yaml", {"c.yaml": CONFIG}).model == "x"
    server = typed("python -m vllm.entrypoints.openai.api_server --config ~/c.yaml", {"c.yaml": CONFIG})
    assert server.model == "m"


def test_what_vllm_passes_over_in_a_config_is_told() -> None:
    launch = typed(
        "vllm serve m --config ~/c.yaml", {"c.yaml": "enable-prefix-caching: false\n"}, known=small()
    )
    assert (launch.options, noted(launch)) == ({}, {"config-ignored"})
    silent = typed("vllm serve m --config ~/c.yaml", {"c.yaml": "enforce-eager: false\n"}, known=small())
    assert noted(silent) == set()
    joined = typed("vllm serve m --config=/home/ada/c.yaml", {"c.yaml": CONFIG}, known=small())
    assert noted(joined) == {"config-ignored"} and "--max-model-len" not in joined.options


def test_a_config_in_a_container_is_read_where_a_mount_brings_it_in() -> None:
    line = "docker run -v ~/cfg:/etc/vllm:ro vllm/vllm-openai m --config /etc/vllm/c.yaml"
    assert typed(line, {"cfg/c.yaml": CONFIG}).integer("--max-model-len") == 8192
    assert noted(typed("docker run vllm/vllm-openai m --config /c.yaml")) == {"not-followed"}
