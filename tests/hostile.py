"""Hands a text to the reader that it is made for: see test_hostile_texts."""

from cudadoctor.facts import Environ, Machine, Packages, Target, Variable
from cudadoctor.probes import builds, hub, packages, symbols
from cudadoctor.simulate import requirements as required
from cudadoctor.testing import FakeHost

SITE = "/v/lib/python3.12/site-packages"
TARGET = Target("/v", "venv", "/v/bin/python", "3.12.1", "/usr", (SITE,), "", "--prefix", True)
MACHINE = Machine("x86_64", "Linux", "Debian", "6.1", 8, 1 << 34, 1 << 34, 8192, None, home="/home/ada")


def installed(name: str, version: str, *lines: str) -> dict[str, object]:
    """Return the metadata of a distribution with these requirements."""
    head = "".join(f"Requires-Dist: {line}\n" for line in lines)
    file = f"{SITE}/{name.replace('-', '_')}-{version}.dist-info/METADATA"
    return {file: f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{head}\n"}


def seen(files: dict[str, object]) -> Packages:
    return packages.probe(FakeHost(files), TARGET)


def environ(**variables: str) -> Environ:
    held = {name: Variable(value, "environment") for name, value in variables.items()}
    return Environ(held, "the current variables", (), "/here")


def requirements(*lines: str, python: str = "") -> None:
    files: dict[str, object] = {}
    for number, line in enumerate(lines):
        files |= installed(f"d{number}", "1", line)
    if python:
        files[f"{SITE}/p-1.dist-info/METADATA"] = f"Name: p\nVersion: 1\nRequires-Python: {python}\n\n"
    found, where = seen(files), required.environments(TARGET, MACHINE)
    read = required.read(found, where)
    required.causes(required.conflicts(read, found, where), read)


def pth(text: str) -> None:
    seen({f"{SITE}/a.pth": text})


def flashinfer(source: str) -> None:
    seen({**installed("flashinfer-python", "0.5.3"), f"{SITE}/flashinfer/jit/cpp_ext.py": source})


def triton(source: str) -> None:
    seen({**installed("triton", "3.5.0"), f"{SITE}/triton/backends/nvidia/driver.py": source})


def flash_attention(line: str) -> None:
    files = {**installed("torch", "2.9.0"), **installed("flash-attn", "2.8.3+cu12torch2.8", line)}
    builds.probe(FakeHost(files), environ(), seen(files))


def vllm(*names: str, source: str = "environment_variables = {'VLLM_B': 1}\n") -> tuple[str, ...]:
    files = {**installed("vllm", "0.12.0"), f"{SITE}/vllm/envs.py": source}
    found = builds.probe(FakeHost(files), environ(**dict.fromkeys(names, "1")), seen(files))
    return tuple(variable.name for variable in found.vllm_unknown)


def model_cache(value: str, **others: str) -> None:
    files = installed("huggingface-hub", "0.36.2")
    variables = environ(HF_HUB_CACHE=value, **others)
    hub.probe(FakeHost(files), TARGET, variables, seen(files), MACHINE)


def loaders(line: str) -> None:
    symbols._astray(FakeHost({}), line, [], [])
