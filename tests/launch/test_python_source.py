"""Python programs: the arguments of an engine, without running a line."""

from __future__ import annotations

import pytest

from cudadoctor.launch.texts import LaunchUnreadable
from tests.launch.read import noted, scripted, small, values, variables

HEAD = "from vllm import LLM, SamplingParams\n"


def test_the_arguments_of_llm_are_options() -> None:
    text = (
        HEAD
        + "llm = LLM(\n    model='m',\n    max_model_len=2048,\n    enforce_eager=True,\n    seed=None)\n"
    )
    launch = scripted(text, "a.py")
    assert (launch.kind, launch.model) == ("vllm-llm", "m")
    assert values(launch) == {
        "--model": "m", "--max-model-len": "2048", "--enforce-eager": "True", "--seed": "None"
    }  # fmt: skip
    assert launch.options["--max-model-len"].origin == "/home/ada/a.py:4"
    assert launch.flag("--enforce-eager") is True


@pytest.mark.parametrize(
    "text",
    [
        HEAD + "LLM('m', max_model_len=4096)",
        "import vllm\nvllm.LLM(model='m', max_model_len=4096)",
        "import vllm as v\nv.LLM('m', max_model_len=4096)",
        "from vllm import LLM as Engine\ndef main():\n    Engine('m', max_model_len=4096)",
        "from vllm import AsyncEngineArgs\nAsyncEngineArgs(model='m', max_model_len=4096)",
        "from vllm.engine.arg_utils import EngineArgs\nEngineArgs(model='m', max_model_len=4096)",
        "import vllm.engine.arg_utils\nvllm.engine.arg_utils.EngineArgs('m', max_model_len=4096)",
        HEAD + "M = 'm'\nN = 4 * 1024\nLLM(M, max_model_len=N)",
        HEAD + "LLM(f'{\"m\"}', max_model_len=int('4096'))",
        HEAD + "s = {'model': 'm', 'max_model_len': 4096}\nLLM(**s)",
        HEAD + "LLM(**dict(model='m', max_model_len=4096))",
        "import os\n"
        + HEAD
        + "LLM(os.environ.get('MODEL', 'x'), max_model_len=int(os.getenv('LEN', '4096')))",
        "import os\n" + HEAD + "LLM(os.environ['MODEL'], max_model_len=4096)",
        "#!/usr/bin/env python3\n" + HEAD + "LLM('m', max_model_len=4096)",
    ],
)
def test_every_way_to_write_it_is_the_same_launch(text: str) -> None:
    launch = scripted(text, "a.py", MODEL="m")
    assert (launch.model, launch.integer("--max-model-len")) == ("m", 4096), launch.notes


def test_a_list_and_a_dictionary_stay_what_they_are() -> None:
    text = HEAD + "LLM('m', served_model_name=['a', 'b'], hf_overrides={'rope': {'type': 'yarn'}})"
    launch = scripted(text, "a.py")
    assert launch.options["--served-model-name"].values == ("a", "b")
    assert launch.text("--hf-overrides") == '{"rope": {"type": "yarn"}}'


def test_what_is_computed_is_not_known() -> None:
    text = (
        HEAD
        + "n = 1\nn = 2\ndef f(model, **kw):\n    LLM(model, max_model_len=n, tensor_parallel_size=g(), **kw)"
    )
    launch = scripted(text, "a.py")
    assert launch.model == "" and noted(launch) == {"value-unknown", "not-followed"}
    reasons = {name: given.reason for name, given in launch.options.items()}
    assert (
        reasons["--max-model-len"]
        == "max_model_len is known only when the program runs: n is set more than once"
    )
    assert reasons["--tensor-parallel-size"].endswith(": g()")
    assert reasons["--model"].endswith(": model changes")


def test_variables_that_it_sets_are_the_launch_s() -> None:
    text = "import os\nos.environ['VLLM_USE_V1'] = '0'\nos.environ['A'] = f()\n" + HEAD + "LLM('m')"
    launch = scripted(text, "a.py")
    assert variables(launch) == {"VLLM_USE_V1": "0"}
    assert launch.variables["VLLM_USE_V1"].origin == "/home/ada/a.py:2"


def test_arguments_that_this_vllm_does_not_have_are_refused() -> None:
    text = (
        HEAD
        + "LLM('m', use_v2_block_manager=True, gpu_memory_utilisation=0.9, kv_cache_dtype='fp8_e3', seed=1)"
    )
    refused = {each.name: (each.why, each.nearest) for each in scripted(text, "a.py", small()).refused}
    assert refused == {
        "use_v2_block_manager": ("unknown", ""),
        "gpu_memory_utilisation": ("unknown", "gpu_memory_utilization"),
        "--kv-cache-dtype": ("choice", "fp8_e4m3"),
    }


def test_a_program_without_an_engine_is_another() -> None:
    launch = scripted("class LLM: pass\nLLM('m')\n", "a.py")
    assert launch.kind == "other" and "makes no vLLM engine" in launch.notes[0].text


def test_text_that_is_no_python_is_one_line() -> None:
    with pytest.raises(LaunchUnreadable, match=r"^/home/ada/a\.py:2: no valid Python: "):
        scripted("a = 1\nb = = 2\n", "a.py")
    with pytest.raises(LaunchUnreadable, match=r"^/home/ada/a\.py"):
        scripted("(" * 5000, "a.py")


@pytest.mark.parametrize(
    "lines",
    [
        "LLM(*given)",
        "LLM('m', **vars(args))",
        "s = dict(model='m', **more)\nLLM(**s)",
        "s = {'model': 'm'}\ns['quantization'] = 'awq'\nLLM(**s)",
        "s = {'model': 'm'}\nif x: s.update(quantization='awq')\nLLM(**s)",
    ],
)
def test_arguments_that_nobody_knows_may_be_any(lines: str) -> None:
    launch = scripted(f"from vllm import LLM\n{lines}\n", "a.py", small())
    assert launch.partial.startswith("there may be more options than are known: ") and launch.refused == ()


def test_arguments_that_are_given_by_name_cannot_be_given_anew() -> None:
    launch = scripted("from vllm import LLM\nLLM('m', seed=1, **more)\n", "a.py", small())
    assert (launch.model, launch.integer("--seed")) == ("m", 1)


def test_of_engines_in_branches_only_what_they_share_is_known() -> None:
    text = "from vllm import LLM\nif q:\n    LLM('m', seed=1, gone=1)\nelse:\n    LLM('m', seed=2)\n"
    launch = scripted(text, "a.py", small())
    assert (launch.model, launch.options["--seed"].values) == ("m", ())
    assert [each.uncertain for each in launch.refused] == [True]
