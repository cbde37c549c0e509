"""What the installed artefacts say of what they were built for: small files beside them, read as text.

Nothing is imported, and a file is read only where the package that it belongs to is installed.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from posixpath import dirname

import msgspec

from cudadoctor.facts import (
    BitsAndBytes,
    Builds,
    BuiltFor,
    Distribution,
    Environ,
    FlashInferPart,
    Packages,
    SharedFile,
    TorchBuild,
    UnknownVariable,
)
from cudadoctor.host import Host, text_of
from cudadoctor.probes.packages import root as import_root
from cudadoctor.simulate.builds import required
from cudadoctor.versions import numbers

_SOURCE_LIMIT = 1 << 20


def probe(host: Host, environ: Environ, packages: Packages) -> Builds:
    """Return what the stack's parts say of their builds."""
    built = tuple(_built_for(host, packages))
    abi, abi_source = None, ""
    if packages.torch is not None and any(each.cxx11_abi is not None for each in built):
        abi, abi_source = _torch_abi(host, packages.torch)
    envs, unknown = _vllm(host, environ, packages.find("vllm"))
    return Builds(
        _torch_source(host, packages.torch),
        abi,
        abi_source,
        tuple(_flashinfer_parts(host, environ, packages)),
        built,
        bitsandbytes(host, packages.find("bitsandbytes")),
        envs,
        unknown,
        tuple(_shared_files(host, packages)),
    )


def _version_in(text: str) -> str:
    match = re.search(r"""^__version__\s*(?::[^=\n]+)?=\s*['"]([^'"\n]+)['"]""", text, re.MULTILINE)
    return match[1] if match else ""


def _line(path: str, text: str, at: int) -> str:
    """Return "path:line" of an offset in the text."""
    return f"{path}:{text.count(chr(10), 0, at) + 1}"


# --- torch --------------------------------------------------------------------------------------------------


def _torch_source(host: Host, torch: TorchBuild | None) -> str:
    if torch is None:
        return ""
    path = f"{torch.root}/version.py"
    text = text_of(host, path)
    match = re.search(r"^cuda\b", text, re.MULTILINE)
    return _line(path, text, match.start()) if match else torch.root


def _torch_abi(host: Host, torch: TorchBuild) -> tuple[bool | None, str]:
    """Return whether torch has the new C++ ABI, and what says so.

    Up to 2.6 torch's own CMake file states it. Every wheel since 2.7 has the new one
    (https://github.com/pytorch/pytorch/issues/149550, read 2026-11-21).
    """
    path = f"{torch.root}/share/cmake/Torch/TorchConfig.cmake"
    text = text_of(host, path)
    if match := re.search(r"_GLIBCXX_USE_CXX11_ABI=([01])", text):
        return match[1] == "1", _line(path, text, match.start())
    if numbers(torch.version) >= (2, 7):
        return True, f"torch {torch.version}: every wheel since 2.7 has the new C++ ABI"
    return None, ""


# --- FlashInfer ---------------------------------------------------------------------------------------------

_PARTS = (("flashinfer-cubin", "flashinfer_cubin"), ("flashinfer-jit-cache", "flashinfer_jit_cache"))


def _flashinfer_parts(host: Host, environ: Environ, packages: Packages) -> Iterator[FlashInferPart]:
    """Yield the companions of flashinfer-python, judged by the rule in its own jit/env.py."""
    flashinfer = packages.find("flashinfer-python")
    found = [(packages.find(name), module) for name, module in _PARTS]
    if flashinfer is None or not any(each for each, _ in found):
        return
    root = f"{flashinfer.location}/flashinfer"
    wanted_source = f"{root}/_build_meta.py"
    wanted = _version_in(text_of(host, wanted_source))
    path = f"{root}/jit/env.py"
    rule = text_of(host, path)
    for each, module in found:
        if each is None or not wanted or not rule:
            continue
        source = f"{each.location}/{module}/_build_meta.py"
        version = _version_in(text_of(host, source))
        if not version:
            version, source = each.version, each.path
        otherwise, at = _otherwise(rule, each.name, environ)
        suits = _suits(rule, each.name, version, wanted)
        where = _line(path, rule, at) if otherwise else path
        yield FlashInferPart(each.name, version, source, wanted, wanted_source, suits, otherwise, where)


def _suits(rule: str, name: str, version: str, wanted: str) -> bool:
    """Return whether FlashInfer takes the part: the jit-cache's version has its CUDA behind a plus.

    Up to 0.6 anything that begins alike will do, later nothing but that plus may follow.
    """
    if name == "flashinfer-cubin":
        return version == wanted
    strict = 'startswith(f"{flashinfer_version}+")' in rule
    return version == wanted or version.startswith(f"{wanted}+" if strict else wanted)


def _otherwise(rule: str, name: str, environ: Environ) -> tuple[str, int]:
    """Return what importing FlashInfer does where the versions differ, and the place in its source."""
    ignores = rule.find(f"Ignoring incompatible {name} package")
    if ignores >= 0:
        return "warns", ignores
    raises = rule.find(f'"{name} version (')
    if raises < 0:
        raises = rule.find("{distribution} version (")
    if raises < 0 or _is_not_looked_at(rule, name, environ):
        return "", 0
    return "raises", raises


def _is_not_looked_at(rule: str, name: str, environ: Environ) -> bool:
    """Return whether FLASHINFER_CUBIN_DIR makes FlashInfer pass the cubin package by (since 0.6.16)."""
    variable, package = rule.find('"FLASHINFER_CUBIN_DIR")'), rule.find("import flashinfer_cubin")
    named = bool(environ.get("FLASHINFER_CUBIN_DIR"))
    return name == "flashinfer-cubin" and named and 0 <= variable < package


# --- built for which torch ----------------------------------------------------------------------------------

_FOR = re.compile(
    r"(?:cu(?P<before>\d+))?(?P<by>torch|pt)(?P<torch>\d+(?:\.\d+)*)(?P<rest>.*)", re.IGNORECASE
)
#: Of a requirement without blanks: runs of them would take squared time.
_OF_TORCH = re.compile(r"torch\(?==(\d[\w.]*)\)?(?:;|$)", re.ASCII)
#: Whose wheels are named by hand: the name of the downloaded file says what their version does not.
_NAMED_BY_HAND = frozenset(("flash-attn", "flash-attn-3", "flash-attn-4"))


def _built_for(host: Host, packages: Packages) -> Iterator[BuiltFor]:
    if packages.torch is None:
        return
    for each in packages.distributions:
        if each.name in ("torchvision", "torchaudio"):
            yield from _of_vision(host, each)
        elif each.name == "xformers":
            yield from _of_xformers(host, each)
        elif "+" in each.version:
            yield from _labelled(each, each.version.partition("+")[2], each.path)
        elif each.name in _NAMED_BY_HAND:
            yield from _downloaded(host, each)


def _labelled(each: Distribution, label: str, source: str) -> Iterator[BuiltFor]:
    """Read a local version label: "cu12torch2.8cxx11abiTRUE", "cu124torch2.6" or "pt28cu126"."""
    match = _FOR.match(label)
    torch = _torch_of(match["by"].lower(), match["torch"]) if match else ""
    if match is None or not torch:
        return
    after = re.match(r"cu(\d+)", match["rest"])
    digits = match["before"] or (after[1] if after else "")
    abi = re.search(r"cxx11abi(TRUE|FALSE)", match["rest"], re.IGNORECASE)
    yield BuiltFor(
        each.name,
        each.version,
        source,
        f"+{label}",
        torch,
        _cuda(digits),
        abi[1].upper() == "TRUE" if abi else None,
        _required(each),
    )


def _torch_of(by: str, digits: str) -> str:
    """Return the release that a label names: "2.8", or "pt28", or "torch280"; "" where it can be two.

    PyTorch Geometric writes pt210 for 2.10; torch210 is 2.1.0 to one project and 2.10 to another.
    """
    if "." in digits:
        return digits
    if by == "pt" or len(digits) == 2:
        return f"{digits[0]}.{digits[1:]}" if len(digits) > 1 else ""
    if len(digits) == 4:
        return f"{digits[0]}.{digits[1:3]}"
    return f"{digits[0]}.{digits[1]}" if len(digits) == 3 and digits[1] != "1" else ""


def _cuda(digits: str) -> str:
    """Return "12.8" for "128" and "12" for "12"."""
    return f"{digits[:-1]}.{digits[-1]}" if len(digits) > 2 else digits


def _required(each: Distribution) -> str:
    wanted = (requirement for requirement in each.requires if requirement.startswith("torch"))
    matches = (_OF_TORCH.match("".join(requirement.split())) for requirement in wanted)
    return next((match[1] for match in matches if match), "")


def _downloaded(host: Host, each: Distribution) -> Iterator[BuiltFor]:
    """Read the name of the wheel that pip was given a URL of: its metadata says 2.8.3 and no more."""
    source = f"{dirname(each.path)}/direct_url.json"
    data = _json(host, source)
    url = data.get("url")
    name = url.rpartition("/")[2].replace("%2B", "+").replace("%2b", "+") if isinstance(url, str) else ""
    label = name.partition("+")[2].partition("-")[0]
    if label and name.endswith(".whl"):
        yield from _labelled(each, label, source)


def _json(host: Host, path: str) -> dict[str, object]:
    try:
        found = msgspec.json.decode(host.read(path, _SOURCE_LIMIT))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _of_xformers(host: Host, each: Distribution) -> Iterator[BuiltFor]:
    source = f"{each.location}/xformers/cpp_lib.json"
    stated = _json(host, source).get("version")
    if not isinstance(stated, dict) or not isinstance(torch := stated.get("torch"), str):
        return
    number = stated.get("cuda")
    cuda = f"{number // 100}.{number % 100}" if isinstance(number, int) else ""
    public = torch.partition("+")[0]
    says = f"torch {torch}" + (f", CUDA {cuda}" if cuda else "")
    yield BuiltFor(each.name, each.version, source, says, public, cuda, None, _required(each))


def _of_vision(host: Host, each: Distribution) -> Iterator[BuiltFor]:
    """Read torchvision's or torchaudio's own version, which names the CUDA that the index's does not."""
    source = f"{each.location}/{each.name}/version.py"
    text = text_of(host, source)
    version = _version_in(text)
    match = re.search(r"\+(?:cu(\d+)|(cpu))\b", version)
    if match is None:
        return
    exact = each.name == "torchaudio" and "ta_version != t_version" in text_of(
        host, f"{each.location}/torchaudio/_extension/utils.py"
    )
    at = _line(source, text, text.find(version))
    yield BuiltFor(
        each.name, version, at, version, "", match[2] or _cuda(match[1]), None, _required(each), exact
    )


# --- bitsandbytes -------------------------------------------------------------------------------------------


def bitsandbytes(host: Host, found: Distribution | None) -> BitsAndBytes | None:
    """Return its libraries and its rule; None where it is not installed, or its rule is not known."""
    if found is None:
        return None
    root = import_root(host, found, "bitsandbytes")
    try:
        names = host.list(root)
    except OSError:
        return None
    matches = (re.fullmatch(r"libbitsandbytes_cuda(\d{2})(\d+)\.so", name) for name in names)
    brought = sorted((int(match[1]), int(match[2])) for match in matches if match)
    source = f"{root}/cextension.py"
    rule = text_of(host, source)
    if "libbitsandbytes_" not in rule:
        return None  # older than the rule that is known here, or damaged
    cuda = tuple(f"{major}.{minor}" for major, minor in brought)
    return BitsAndBytes(found.version, root, cuda, source, "def _find_cuda_libs(" in rule)


# --- vLLM's variables ---------------------------------------------------------------------------------------

#: What Kubernetes sets for a service that is called vllm-something.
_OF_SERVICE = re.compile(r"SERVICE_HOST$|SERVICE_PORT|PORT_\d+_(?:TCP|UDP)")
_NEAR, _TYPO = 0.85, 0.93
_FILES_LIMIT = 10_000


def _vllm(
    host: Host, environ: Environ, found: Distribution | None
) -> tuple[str, tuple[UnknownVariable, ...]]:
    """Return vLLM's list of variables, and those of the judged ones that nothing in it reads.

    The list is parsed only where a variable is set that it does not obviously name, and the rest of vLLM
    searched only for what the list does not name.
    """
    if found is None:
        return "", ()
    root = import_root(host, found, "vllm")
    path = f"{root}/envs.py"
    text = text_of(host, path)
    names = sorted(name for name in environ.variables if name.startswith("VLLM_"))
    names = [name for name in names if f'\n    "{name}":' not in text and not _OF_SERVICE.search(name)]
    known = _known(text) if names else frozenset()
    unknown = [name for name in names if name not in known] if known else []
    if unknown:
        unknown = _unread(host, root, unknown)
    return (path if text else ""), tuple(_nearest(name, known) for name in unknown)


def _known(text: str) -> frozenset[str]:
    """Return the keys of `environment_variables`; nothing where it is no dict of plain names."""
    import ast

    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return frozenset()
    for node in tree.body:
        targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
        named = any(isinstance(t, ast.Name) and t.id == "environment_variables" for t in targets)
        if named and isinstance(value := getattr(node, "value", None), ast.Dict):
            keys = [key.value for key in value.keys if isinstance(key, ast.Constant)]
            if len(keys) == len(value.keys):
                return frozenset(key for key in keys if isinstance(key, str))
    return frozenset()


def _unread(host: Host, root: str, names: list[str]) -> list[str]:
    """Return those of the names that no source file of vLLM has in quotes: it reads some past its list."""
    left, folders, seen = dict.fromkeys(names), [root], 0
    while folders and left:
        folder = folders.pop()
        try:
            entries = host.list(folder)
        except OSError:
            continue
        for entry in entries:
            path = f"{folder}/{entry}"
            if entry.endswith(".py"):
                seen += 1
                text = text_of(host, path)
                if "VLLM_" in text:
                    left = {name: None for name in left if not _has_in_quotes(text, name)}
            elif "." not in entry and entry != "__pycache__" and host.kind(path, False) == "directory":
                folders.append(path)
        if seen > _FILES_LIMIT:
            return []
    return list(left)


def _has_in_quotes(text: str, name: str) -> bool:
    return f'"{name}"' in text or f"'{name}'" in text


def _nearest(name: str, known: frozenset[str]) -> UnknownVariable:
    from difflib import SequenceMatcher, get_close_matches

    ours = [each for each in known if each.startswith("VLLM_")]
    near = next(iter(get_close_matches(name, ours, 1, _NEAR)), "")
    return UnknownVariable(name, near, bool(near) and SequenceMatcher(None, name, near).ratio() >= _TYPO)


# --- wheels that overwrite each other -----------------------------------------------------------------------


def _shared_files(host: Host, packages: Packages) -> Iterator[SharedFile]:
    """Yield one library for each of NVIDIA's wheels that torch needs and that is there for two CUDA majors.

    nvidia-nccl-cu12 and nvidia-nccl-cu13 both bring nvidia/nccl/lib/libnccl.so.2; those that have folders of
    their own bring nothing alike and are no concern.
    """
    torch = packages.find("torch")
    needed = required(torch) if torch is not None else set()
    families: dict[tuple[str, str], list[Distribution]] = defaultdict(list)
    for each in packages.distributions:
        if match := re.fullmatch(r"(nvidia-.+)-cu\d+", each.name):
            families[match[1], each.location].append(each)
    for (_, location), members in families.items():
        if len(members) > 1 and any(each.name in needed for each in members):
            yield from _overwritten(host, location, members)


def _overwritten(host: Host, location: str, members: list[Distribution]) -> Iterator[SharedFile]:
    sizes: dict[str, dict[str, str]] = defaultdict(dict)
    for each in members:
        record = text_of(host, f"{dirname(each.path)}/RECORD")
        for path, size in re.findall(r"^([^,\n]+\.so[.\d]*),[^,\n]*,(\d+)\s*$", record, re.MULTILINE):
            sizes[path][each.name] = size
    for path, by_owner in sizes.items():
        if len(set(by_owner.values())) > 1:
            try:
                there = str(host.size(f"{location}/{path}"))
            except OSError:
                there = ""
            holders = [name for name, size in by_owner.items() if size == there]
            holds = holders[0] if len(holders) == 1 else ""
            yield SharedFile(f"{location}/{path}", tuple(sorted(by_owner)), holds)
            return
