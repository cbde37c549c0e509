"""Models on a real disk: folders, caches of the hub, and files of safetensors whose tensors are holes."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cudadoctor.facts import Distribution, Environ, Launch, Machine, Packages, Variable
from cudadoctor.facts.launch import Given
from cudadoctor.facts.model import Model
from cudadoctor.host import Host, RealHost
from cudadoctor.probes.model import probe
from cudadoctor.probes.target import Asked, Request
from tests.simulate.models import QWEN3_4B, QWEN3_32B, QWEN3_NEXT_80B, QWEN25_7B, QWEN25_32B

COMMIT = "a" * 40
INDEX = "model.safetensors.index.json"
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"}
FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
COMPRESSED = {"quant_method": "compressed-tensors", "format": "float-quantized"}

#: The five deployments: architecture, config, and what it says of its weights.
DEPLOYED: dict[str, dict[str, Any]] = {
    "Qwen/Qwen2.5-32B-Instruct-AWQ": {
        **QWEN25_32B, "architectures": ["Qwen2ForCausalLM"], "torch_dtype": "float16",
        "quantization_config": AWQ,
    },
    "local/Qwen3-Next-80B-A3B-FP8": {
        **QWEN3_NEXT_80B, "architectures": ["Qwen3NextForCausalLM"], "torch_dtype": "bfloat16",
        "quantization_config": COMPRESSED,
    },
    "Qwen/Qwen3-4B-Instruct-2507-FP8": {
        **QWEN3_4B, "architectures": ["Qwen3ForCausalLM"], "torch_dtype": "bfloat16",
        "quantization_config": FP8,
    },
    "Qwen/Qwen3-32B-FP8": {
        **QWEN3_32B, "architectures": ["Qwen3ForCausalLM"], "torch_dtype": "bfloat16",
        "quantization_config": FP8,
    },
    "Qwen/Qwen2.5-7B-Instruct-AWQ": {
        **QWEN25_7B, "architectures": ["Qwen2ForCausalLM"], "torch_dtype": "float16",
        "quantization_config": AWQ,
    },
}  # fmt: skip
PLAIN = {key: value for key, value in DEPLOYED["Qwen/Qwen3-32B-FP8"].items() if key != "quantization_config"}


def tensors(path: Path, sizes: Mapping[str, int]) -> int:
    """Write a file of safetensors with tensors of so many bytes, all holes; return their sum."""
    at, header = 0, {}
    for name, size in sizes.items():
        header[name] = {"dtype": "U8", "shape": [size], "data_offsets": [at, at + size]}
        at += size
    raw = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        file.truncate(8 + len(raw) + at)
    return at


def shards(folder: Path, sizes: list[int], total: object = None) -> int:
    """Write shards of so many bytes and their index; return the sum, which the index states as `total`."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"model-{at:05}-of-{len(sizes):05}.safetensors" for at in range(1, len(sizes) + 1)]
    for name, size in zip(names, sizes, strict=True):
        tensors(folder / name, {f"{name}.a": size // 2, f"{name}.b": size - size // 2})
    weight_map = {f"{name}.{part}": name for name in names for part in "ab"}
    metadata = {"total_size": sum(sizes) if total is None else total}
    (folder / INDEX).write_text(json.dumps({"metadata": metadata, "weight_map": weight_map}))
    return sum(sizes)


def config(folder: Path, content: Mapping[str, Any] = PLAIN) -> Path:
    """Write config.json into a folder; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(content))
    return folder


def cached(cache: Path, name: str, content: Mapping[str, Any] = PLAIN, commit: str = COMMIT) -> Path:
    """Make a snapshot of a model in a cache of the hub, with its config; return the snapshot."""
    repository = cache / f"models--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    (repository / "blobs").mkdir(exist_ok=True)
    (repository / "refs/main").write_text(commit)
    return config(repository / "snapshots" / commit, content)


def launch(model: str, variables: Mapping[str, str] | None = None, **options: str) -> Launch:
    """Return `vllm serve MODEL` with options and leading variables."""
    given = {
        f"--{name.replace('_', '-')}": Given((value,), "command line", f"--{name}")
        for name, value in options.items()
    }
    values = {name: Variable(value, "command line") for name, value in (variables or {}).items()}
    return Launch("vllm-serve", ("vllm", "serve", model), "command line", given, values, {}, model)


class Home:
    """A user's home on a real disk, and the environment a model is looked for in."""

    def __init__(self, path: Path, site: str = "", **versions: str) -> None:
        self.path, self.cache = path, path / ".cache/huggingface/hub"
        self.environ: dict[str, str] = {"HOME": str(path)}
        self.given: Host | None = None
        self.packages = Packages(
            tuple(Distribution(name, version, site) for name, version in versions.items())
        )

    def host(self) -> Host:
        return self.given or RealHost(self.environ)

    def model(self, asked: Launch | str, online: bool = False) -> Model:
        """Return what is told of a launch, or of `vllm serve MODEL`."""
        machine = Machine("x86_64", "Linux", "Debian 12", "6.1.0", 2, 8 << 30, 4 << 30, None, None,
                          home=str(self.path))  # fmt: skip
        environ = Environ({}, "the current variables", (), str(self.path))
        asked = launch(asked) if isinstance(asked, str) else asked
        request = Request(launch=Asked(online=online))
        return probe(self.host(), request, asked, environ, self.packages, machine)

    def preflight(self, asked: Asked) -> Model:
        """Return what is told of a launch as the engine has it: read, and its secrets taken out."""
        from cudadoctor.facts import Target
        from cudadoctor.probes import launch as launches

        machine = Machine("x86_64", "Linux", "Debian 12", "6.1.0", 2, 8 << 30, 4 << 30, None, None,
                          home=str(self.path))  # fmt: skip
        environ = Environ({}, "the current variables", (), str(self.path))
        target = Target("/v", "venv", "/v/bin/python", "3.12", "/usr", (), "", "--prefix", True)
        host, request = RealHost(self.environ), Request(launch=asked)
        read = launches.probe(host, request, target, environ, self.packages)
        return probe(host, request, read, environ, self.packages, machine)
