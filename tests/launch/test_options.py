"""The options of an installed vLLM, read off its source: a real one's parser is the judge."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from cudadoctor.host import RealHost
from cudadoctor.launch import commands, options
from cudadoctor.launch.hints import UNRESOLVED, Unresolved
from cudadoctor.launch.options import Options
from cudadoctor.launch.source import parsed
from cudadoctor.testing import FakeHost
from tests.launch.read import CONFIG, SITE, VLLM, small


def test_every_option_string_is_found_once() -> None:
    assert sorted(small()) == sorted(
        [
            "--headless", "--config", "--host", "--port", "--api-key", "--middleware",
            "--allow-credentials", "--no-allow-credentials", "--model", "--max-model-len",
            "--quantization", "-q", "--enforce-eager", "--no-enforce-eager", "--trust-remote-code",
            "--no-trust-remote-code", "--served-model-name", "--hf-token", "--hf-overrides",
            "--gpu-memory-utilization", "--kv-cache-dtype", "--block-size", "--enable-prefix-caching",
            "--no-enable-prefix-caching", "--tensor-parallel-size", "-tp", "--max-num-seqs",
            "--max-num-batched-tokens", "--compilation-config", "-cc", "--optimization-level",
            "--disable-log-stats", "--enable-log-requests", "--no-enable-log-requests",
        ]
    )  # fmt: skip


def option(name: str) -> options.Option:
    found = small().get(name)
    assert found is not None
    return found


def test_what_an_option_takes_comes_from_its_field() -> None:
    assert (option("--kv-cache-dtype").choices, option("--kv-cache-dtype").default) == (
        ("auto", "bfloat16", "fp8", "fp8_e4m3", "fp8_e5m2"), "auto"
    )  # fmt: skip
    assert (
        option("--block-size").choices == ("1", "16", "32", "8", "None")
        and option("--block-size").kind == "int"
    )
    assert (option("--gpu-memory-utilization").kind, option("--gpu-memory-utilization").limits) == (
        "float", {"gt": 0, "le": 1}
    )  # fmt: skip
    assert (option("--max-model-len").kind, option("--max-num-seqs").kind) == ("human", "int")
    assert (option("--hf-overrides").kind, option("--compilation-config").kind) == ("json", "text")
    assert (option("--enforce-eager").nargs, option("--enforce-eager").default) == (0, False)
    assert (option("--api-key").nargs, option("--served-model-name").nargs, option("--hf-token").nargs) == (
        "+",
        "+",
        "?",
    )
    assert option("--middleware").appends and option("--middleware").nargs is None
    assert (option("--enable-prefix-caching").default, option("--max-num-seqs").default) == (None, 128)
    assert option("-tp").name == "--tensor-parallel-size" and small().default("--model") == "Qwen/Qwen3-0.6B"


def test_values_that_only_type_checkers_see_are_suggestions() -> None:
    quantization = option("--quantization")
    assert (quantization.choices, quantization.suggested) == (None, ("awq", "gptq", "fp8"))


def test_the_parameters_of_llm_are_those_of_its_constructor_and_of_the_engine() -> None:
    assert {"model", "seed", "swap_space", "max_model_len", "enable_log_requests"} <= small().parameters()
    assert "use_v2_block_manager" not in small().parameters() and "kwargs" not in small().parameters()


@pytest.mark.parametrize(
    "changed",
    [
        {"vllm/engine/arg_utils.py": ""},
        {"vllm/engine/arg_utils.py": "def broken(:\n"},
        {"vllm/entrypoints/openai/cli_args.py": "x = 1\n"},
        {"vllm/entrypoints/openai/cli_args.py": "from vllm.entrypoints.openai.cli_args import *\n"},
        {"vllm/engine/arg_utils.py": "class AsyncEngineArgs(AsyncEngineArgs): pass\n"},
    ],
)
def test_a_source_that_is_not_as_known_tells_nothing(changed: dict[str, str]) -> None:
    files = {**VLLM, **{f"{SITE}/{path}": text for path, text in changed.items()}}
    assert options.read(FakeHost(files), SITE) is None
    assert options.read(FakeHost(), SITE) is None


def test_a_default_or_an_annotation_that_must_be_run_is_not_known() -> None:
    text = CONFIG.replace('cache_dtype: CacheDType = "auto"', "cache_dtype: CacheDType = compute()")
    text = text.replace('Literal["auto", "bfloat16"', 'Literal[NAMED, "bfloat16"')
    found = options.read(FakeHost({**VLLM, f"{SITE}/vllm/config/__init__.py": text}), SITE)
    assert found is not None and found.default("--kv-cache-dtype") is UNRESOLVED
    dtype = found.get("--kv-cache-dtype")
    assert dtype is not None and dtype.choices is None


def test_annotations_that_lead_to_themselves_come_to_an_end() -> None:
    text = CONFIG.replace("CacheDType = Literal", "CacheDType = Other\nOther = CacheDType\nUnused = Literal")
    found = options.read(FakeHost({**VLLM, f"{SITE}/vllm/config/__init__.py": text}), SITE)
    assert found is not None and found.get("--kv-cache-dtype") is not None


def test_leaving_out_the_bodies_of_functions_leaves_out_nothing_else() -> None:
    tree = parsed(CONFIG, frozenset())
    assert tree is not None
    assert {node.name for node in tree.body if hasattr(node, "name")} >= {"ModelConfig", "CacheConfig"}
    assert (
        parsed("class A:\n    def f(self):\n        '''\nclass B:\n'''\n    x: int = 1\n", frozenset())
        is not None
    )
    assert parsed("x = (", frozenset()) is None


def test_a_newer_parser_pairs_enable_with_disable() -> None:
    parser = "class EnableDisableAction(BooleanOptionalAction): pass\n"
    files = {**VLLM, f"{SITE}/vllm/utils/argparse_utils.py": parser}
    found = options.read(FakeHost(files), SITE)
    assert found is not None
    turned = found.get("--disable-log-requests")
    assert (
        turned is not None
        and turned.name == "--enable-log-requests"
        and "--disable-log-requests" in turned.off
    )


# --- against the real one -----------------------------------------------------------------------------------

#: vLLM finds no device on a machine without one, and then makes no parser: here it is told that it has a CPU.
CHILD = """
import contextlib, io, json, sys
lines = json.load(sys.stdin)
sys.argv = ["vllm", "serve"]
import vllm.platforms
from vllm.platforms.cpu import CpuPlatform
vllm.platforms.current_platform = CpuPlatform()
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.entrypoints.openai.cli_args import make_arg_parser
parser = make_arg_parser(FlexibleArgumentParser())
table = [
    [a.option_strings, a.nargs, None if a.choices is None else [str(c) for c in a.choices], repr(a.default)]
    for a in parser._actions if a.option_strings and a.dest != "help"
]
taken = []
for line in lines:
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            taken.append({k: repr(v) for k, v in vars(parser.parse_args(line)).items()})
    except (SystemExit, ValueError):
        taken.append(None)
print("@@" + json.dumps([table, taken]))
"""
#: What is to be taken, and what is to be refused, by the real parser and by this one.
LINES = [
    "m", "--model m", "m --max_model_len 32k", "m --max-model-len 32K", "m --max-model-len 4.5",
    "m --max-model 4096", "m -tp 2 -pp=1 -q awq", "m --enforce-eager --no-enable-prefix-caching",
    "m --enforce-eager=true", "m --kv-cache-dtype fp8", "m --kv-cache-dtype fp8_e9",
    "m --gpu-memory-utilization .9", "m --use-v2-block-manager", "m --gpu-memory-utilization 90%", "m -O3",
    "m -O 2", "m --hf-overrides.rope.type yarn", "m --block-size 16", "m --block-size 12",
    "m --served-model-name a b", "m stray", "m --port", "m --port 8000 --port 9000", "m --max-num 4",
    "m --seed 1.5", "m --lora-modules a=b", "m --hf-token", "m --hf-token x",
    "m --middleware a --middleware b", "m --limit-mm-per-prompt '{\"image\": 2}'",
    "m --limit-mm-per-prompt {image:2}", "m --swap-space 4 --cpu-offload-gb 2", "m --task embed",
    "m --task x", "m --uvicorn-log-level debug", "m --disable-log-requests", "--port 1 m",
    "m -dp 2 -asc 2", "m --compilation-config.level 3", "m --max-num-batched-tokens 8k",
    "m --tensor-parallel-size two", "m -n 2 -r 0", "m --quantization nosuch", "m --dtype float8",
    "m --load-format nosuch", "m --allowed-origins '[\"*\"]'", "m --allowed-origins *",
    "m --limit-mm-per-prompt image=2",
    "m --limit-mm-per-prompt 2", "m --compilation-config garbage",
    "m --compilation-config 3", "m --compilation-config '{\"level\": 3}'", "m --lora-modules a",
    "m --lora-modules a=b,c=d", "m --lora-modules '{\"name\": \"a\", \"path\": \"b\"}' c=d",
    "m --collect-detailed-traces foo", "m --collect-detailed-traces model,worker",
    "m --collect-detailed-traces all model", "m --collect-detailed-traces model,model",
    "m --tensor-parallel-size ''", "m --max-num-seqs ''", "m --max-model-len ''", "m --max-model-len None",
    "m --tensor-parallel-size None", "m --gpu-memory-utilization ''", "m --port ''", "m --quantization ''",
    "m --speculative-config '{}'", "m --speculative-config x", "m --kv-transfer-config 3",
    "m --hf-overrides x", "m --mm-processor-kwargs x", "m --mm-processor-kwargs None",
    "m --block-size ''", "m --block-size None",
    "m --kv-cache-dtype None", "m --tokenizer ''",
    "m --speculative-config ''", "m --collect-detailed-traces ''", "m --collect-detailed-traces None",
    "m --kv-cache-dtype ''", "m --override-generation-config a=b", "m --pooler-config x", "m --seed ''",
    "m --allowed-methods GET", "m --media-io-kwargs ''", "m --structured-outputs-config x",
    "m --default-chat-template-kwargs x", "m --logits-processors a b", "m --api-key ''",
    "m --max-logprobs ''",
    "m --compilation-config ''", "m --compilation-config None", "m --kv-transfer-config None",
]  # fmt: skip


@pytest.fixture(scope="module")
def stack() -> Path:
    named = os.environ.get("CUDADOCTOR_STACK")
    if not named:
        pytest.skip("CUDADOCTOR_STACK names no environment")
    found = sorted(Path(named).glob("lib/python3.*/site-packages/vllm/engine/arg_utils.py"))
    if not found:
        pytest.skip("there is no vLLM in CUDADOCTOR_STACK")
    return Path(named)


@cache
def real(stack: Path) -> tuple[list[Any], list[Any]]:
    lines = json.dumps([shlex.split(line) for line in LINES])
    environ = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "VLLM_LOGGING_LEVEL": "ERROR"}
    environ.pop("PYTHONPATH", None)
    ran = subprocess.run(
        [str(stack / "bin/python"), "-c", CHILD],
        input=lines,
        capture_output=True,
        text=True,
        env=environ,
        timeout=300,
    )
    assert "@@" in ran.stdout, ran.stderr[-2000:]
    table, taken = json.loads(ran.stdout.partition("@@")[2])
    return table, taken


def of(stack: Path) -> Options:
    (location,) = stack.glob("lib/python3.*/site-packages")
    found = options.read(RealHost({}), str(location))
    assert found is not None
    return found


@pytest.mark.stack
def test_the_real_parser_has_these_options_and_no_others(stack: Path) -> None:
    table, _ = real(stack)
    assert {name for names, *_ in table for name in names} == set(of(stack))


@pytest.mark.stack
def test_the_real_parser_takes_as_many_values_and_the_same_choices(stack: Path) -> None:
    table, _ = real(stack)
    found = of(stack)
    unknown = []
    for names, nargs, choices, _ in table:
        option = found.get(names[0])
        assert option is not None and option.nargs == nargs, names
        if choices is not None and option.choices is None:
            unknown.append(names[0])
        else:
            assert sorted(choices or []) == sorted(option.choices or []), names
    assert len(unknown) <= 2, unknown


@pytest.mark.stack
def test_the_real_parser_has_the_same_defaults(stack: Path) -> None:
    table, _ = real(stack)
    found, unknown = of(stack), []
    for names, _, _, default in table:
        ours = found.default(names[0])
        if isinstance(ours, Unresolved):
            unknown.append(names[0])
        else:
            assert repr(ours) == default or f": {ours!r}>" in default, (names, default)  # <Level.O2: 2>
    assert len(unknown) <= 10, unknown


@pytest.mark.stack
@pytest.mark.parametrize("line", LINES)
def test_the_real_parser_takes_and_refuses_the_same(stack: Path, line: str) -> None:
    _, taken = real(stack)
    theirs = taken[LINES.index(line)]
    launch = commands.read(RealHost({}), ["vllm", "serve", *shlex.split(line)], of(stack))
    wrong = [each for each in launch.refused if each.why != "range"]
    assert bool(wrong) == (theirs is None), (launch.refused, theirs)
    if theirs is None:
        return
    table, _ = real(stack)
    assert theirs["model_tag"] in (repr(launch.model), "None")
    for names, *_ in table:
        option = of(stack).get(names[0]) if names[0] in launch.options else None
        told = launch.text(option.name) if option is not None else None
        plain = option is not None and option.kind == "text" and option.nargs is None and not option.appends
        if option is not None and plain and told is not None and not told.startswith("{"):
            held = "None" if told in ("", "None") and option.empty else repr(told)
            assert theirs[option.name[2:].replace("-", "_")] in (held, repr(told))


#: As `vllm serve` itself goes about it: the parser of its subcommand, and what it looks at behind that.
SERVED = """
import contextlib, io, json, sys
lines = json.load(sys.stdin)
import vllm.platforms
from vllm.platforms.cpu import CpuPlatform
vllm.platforms.current_platform = CpuPlatform()
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.entrypoints.openai.cli_args import make_arg_parser, validate_parsed_serve_args
parser = FlexibleArgumentParser()
make_arg_parser(parser.add_subparsers(dest="subparser").add_parser("serve"))
taken = []
for line in lines:
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            validate_parsed_serve_args(parser.parse_args(["serve", *line]))
        taken.append(True)
    except (SystemExit, ValueError, TypeError):
        taken.append(False)
print("@@" + json.dumps(taken))
"""
SERVE_LINES = [
    "m", "--model n", "m --model n", "m --model=n", "--port 1 --model n", "m --enable-auto-tool-choice",
    "m --enable-auto-tool-choice --tool-call-parser hermes", "m --tool-call-parser hermes",
    "m --enable-log-outputs", "m --enable-log-outputs --enable-log-requests",
    "m --enable-log-outputs --no-enable-log-requests", "m --no-enable-auto-tool-choice",
    "m --enable-auto-tool-choice --tool-call-parser ''", "m n", "m --lora-modules a",
]  # fmt: skip


@pytest.mark.stack
def test_the_real_command_takes_and_refuses_the_same(stack: Path) -> None:
    lines = [shlex.split(line) for line in SERVE_LINES]
    environ = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "VLLM_LOGGING_LEVEL": "ERROR"}
    ran = subprocess.run(
        [str(stack / "bin/python"), "-c", SERVED], input=json.dumps(lines), capture_output=True, text=True,
        env=environ, timeout=300,
    )  # fmt: skip
    assert "@@" in ran.stdout, ran.stderr[-2000:]
    theirs = dict(zip(SERVE_LINES, json.loads(ran.stdout.partition("@@")[2]), strict=True))
    known = of(stack)
    ours = {
        line: not commands.read(RealHost({}), ["vllm", "serve", *shlex.split(line)], known).refused
        for line in SERVE_LINES
    }
    assert ours == theirs
