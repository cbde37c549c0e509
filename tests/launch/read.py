"""Launches read on a machine made in memory, and the source of a small vLLM of our own."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from functools import cache

from cudadoctor.facts.launch import Launch
from cudadoctor.launch import commands, compose, dockerfile, options, script
from cudadoctor.launch.options import Options
from cudadoctor.testing import FakeHost

SITE = "/v/lib/python3.12/site-packages"
ENGINE = '''
import argparse
from dataclasses import dataclass
from vllm.config import CacheConfig, ModelConfig, SchedulerConfig, CompilationConfig

def get_kwargs(cls):
    """Make argparse's keywords of fields."""
    for name in {"max_model_len", "max_num_batched_tokens"}:
        pass

@dataclass
class EngineArgs:
    model: str = ModelConfig.model
    max_model_len: int | None = ModelConfig.max_model_len
    quantization: str | None = None
    gpu_memory_utilization: float = CacheConfig.gpu_memory_utilization
    kv_cache_dtype: str = CacheConfig.cache_dtype
    enforce_eager: bool = False
    tensor_parallel_size: int = 1
    compilation_config: CompilationConfig = None
    max_num_seqs: int | None = None

    @staticmethod
    def add_cli_args(parser):
        model_kwargs = get_kwargs(ModelConfig)
        group = parser.add_argument_group(title="ModelConfig")
        if not ("serve" in sys.argv):
            group.add_argument("--model", **model_kwargs["model"])
        group.add_argument("--max-model-len", **model_kwargs["max_model_len"])
        group.add_argument("--quantization", "-q", **model_kwargs["quantization"])
        group.add_argument("--enforce-eager", **model_kwargs["enforce_eager"])
        group.add_argument("--trust-remote-code", **model_kwargs["trust_remote_code"])
        group.add_argument("--served-model-name", **model_kwargs["served_model_name"])
        group.add_argument("--hf-token", type=str, nargs="?", const=True)
        group.add_argument("--hf-overrides", **model_kwargs["hf_overrides"])
        cache_kwargs = get_kwargs(CacheConfig)
        group.add_argument("--gpu-memory-utilization", **cache_kwargs["gpu_memory_utilization"])
        group.add_argument("--kv-cache-dtype", **cache_kwargs["cache_dtype"])
        group.add_argument("--block-size", **cache_kwargs["block_size"])
        group.add_argument(
            "--enable-prefix-caching", **{**cache_kwargs["enable_prefix_caching"], "default": None}
        )
        group.add_argument("--tensor-parallel-size", "-tp", type=int, default=1)
        scheduler_kwargs = get_kwargs(SchedulerConfig)
        group.add_argument("--max-num-seqs", **scheduler_kwargs["max_num_seqs"])
        group.add_argument("--max-num-batched-tokens", **scheduler_kwargs["max_num_batched_tokens"])
        group.add_argument("--compilation-config", "-cc", **get_kwargs(CompilationConfig)["whole"])
        group.add_argument("--optimization-level", type=int, default=2)
        parser.add_argument("--disable-log-stats", action="store_true")
        return parser

@dataclass
class AsyncEngineArgs(EngineArgs):
    enable_log_requests: bool = False

    @staticmethod
    def add_cli_args(parser, async_args_only=False):
        if not async_args_only:
            parser = EngineArgs.add_cli_args(parser)
        parser.add_argument("--enable-log-requests", action=argparse.BooleanOptionalAction, default=False)
        return parser
'''
CONFIG = '''
from typing import TYPE_CHECKING, Any, Literal
from pydantic import Field
if TYPE_CHECKING:
    from vllm.methods import QuantizationMethods
else:
    QuantizationMethods = Any
CacheDType = Literal["auto", "bfloat16", "fp8", "fp8_e4m3", "fp8_e5m2"]
@config
@dataclass
class CompilationConfig:
    whole: "CompilationConfig" = None
@config
@dataclass
class ModelConfig:
    model: str = "Qwen/Qwen3-0.6B"
    """Name or path."""
    max_model_len: int | None = Field(default=None, gt=0)
    quantization: QuantizationMethods | None = None
    enforce_eager: bool = False
    trust_remote_code: bool = False
    served_model_name: str | list[str] | None = None
    hf_overrides: dict[str, Any] = Field(default_factory=dict)
    def verify(self):
        """A text that looks
like code: class Model:
        """
@config
class CacheConfig:
    gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1)
    cache_dtype: CacheDType = "auto"
    block_size: Literal[1, 8, 16, 32] | None = None
    enable_prefix_caching: bool | None = None
class SchedulerConfig:
    DEFAULT: ClassVar[int] = 128
    max_num_seqs: int = Field(default=DEFAULT, ge=1)
    max_num_batched_tokens: int = 2048
'''
FRONTEND = """
from vllm.engine.arg_utils import AsyncEngineArgs
class Base:
    host: str | None = None
    port: int = 8000
    @classmethod
    def _customize_cli_kwargs(cls, kwargs):
        kwargs["middleware"]["action"] = "append"
        del kwargs["middleware"]["nargs"]
        return kwargs
    @classmethod
    def add_cli_args(cls, parser):
        kwargs = get_kwargs(cls)
        kwargs = cls._customize_cli_kwargs(kwargs)
        for key, value in kwargs.items():
            parser.add_argument(f"--{key.replace('_', '-')}", **value)
        return parser
class FrontendArgs(Base):
    api_key: list[str] | None = None
    middleware: list[str] = field(default_factory=lambda: [])
    allow_credentials: bool = False
    @classmethod
    def _customize_cli_kwargs(cls, kwargs):
        kwargs = super()._customize_cli_kwargs(kwargs)
        return kwargs
def make_arg_parser(parser):
    parser.add_argument("model_tag", type=str, nargs="?")
    parser.add_argument("--headless", action="store_true", default=False)
    parser.add_argument("--config")
    parser = FrontendArgs.add_cli_args(parser)
    parser = AsyncEngineArgs.add_cli_args(parser)
    return parser
"""
PARSER = """
if "--config" in args: pass
x = ["--optimization-level", "3"]
def recursive_dict_update(): pass
"""
LLM = """
class LLM:
    def __init__(
        self,
        model: str,
        *,
        seed: int = 0,
        swap_space: float = 4,
        **kwargs,
    ) -> None:
        self.llm = EngineArgs(model=model, **kwargs)
"""
VLLM = {
    f"{SITE}/vllm/engine/arg_utils.py": ENGINE,
    f"{SITE}/vllm/config/__init__.py": CONFIG,
    f"{SITE}/vllm/methods.py": 'QuantizationMethods = Literal["awq", "gptq", "fp8"]\n',
    f"{SITE}/vllm/entrypoints/openai/cli_args.py": FRONTEND,
    f"{SITE}/vllm/entrypoints/llm.py": LLM,
    f"{SITE}/vllm/utils/argparse_utils.py": PARSER,
}


@cache
def small() -> Options:
    """Return the options of the small vLLM."""
    found = options.read(FakeHost(VLLM), SITE)
    assert found is not None
    return found


def host(
    files: Mapping[str, str | bytes] | None = None, environ: Mapping[str, str] | None = None
) -> FakeHost:
    """Return a machine with these files in the home of Ada."""
    return FakeHost({f"/home/ada/{name}": text for name, text in (files or {}).items()}, environ)


def typed(
    line: str,
    files: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
    known: Options | None = None,
) -> Launch:
    """Return the launch of a command line, with the words that a shell makes of it."""
    return commands.read(host(files, environ), shlex.split(line.replace("~", "/home/ada")), known)


def scripted(text: str, name: str = "run.sh", known: Options | None = None, **environ: str) -> Launch:
    """Return the launch of a script."""
    return script.read(host({name: text}, environ), f"/home/ada/{name}", known)


def composed(
    text: str,
    files: Mapping[str, str] | None = None,
    service: str = "",
    known: Options | None = None,
    **environ: str,
) -> Launch:
    """Return the launch of a compose file."""
    return compose.read(
        host({"compose.yaml": text, **(files or {})}, environ), "/home/ada/compose.yaml", service, known
    )


def built(text: str, known: Options | None = None) -> Launch:
    """Return the launch of a Dockerfile."""
    return dockerfile.read(host({"Dockerfile": text}), "/home/ada/Dockerfile", known)


def values(launch: Launch) -> dict[str, str]:
    """Return the options, each as one text."""
    return {name: " ".join(given.values) for name, given in launch.options.items()}


def variables(launch: Launch) -> dict[str, str]:
    """Return the variables that the command sets."""
    return {name: variable.value for name, variable in launch.variables.items()}


def noted(launch: Launch) -> set[str]:
    """Return the names of the notes."""
    return {note.name for note in launch.notes}
