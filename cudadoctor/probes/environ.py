"""The variables that a launch in the target environment will see.

An active target is judged by the current variables. An inactive one by the current variables plus what
its activation would set, as far as files tell: conda's own state file, the plain `export NAME=value`
lines in activate.d, and the exports that this program has put into activation files. Nothing is executed but
with `--deep`, which activates it in a child shell.
"""

from __future__ import annotations

import re

import msgspec

from cudadoctor.facts import Environ, Target, Variable
from cudadoctor.host import Host
from cudadoctor.probes.activation import activated
from cudadoctor.probes.target import Request

#: Variables that some tool of a CUDA build reads. Names that can hold a secret have no place here.
NAMES = frozenset((
    "CUDA_HOME", "CUDA_PATH", "CUDA_ROOT", "CUDA_LIB_PATH", "CUDA_INC_PATH", "CUDAToolkit_ROOT", "CUDACXX",
    "CUDAHOSTCXX", "CUDAFLAGS", "LIBRARY_PATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "LD_RUN_PATH", "CPATH",
    "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "CC", "CXX", "CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS",
    "COMPILER_PATH", "GCC_EXEC_PREFIX", "NVCC_CCBIN", "NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS",
    "NVCC_THREADS", "PYTORCH_NVCC", "MAX_JOBS", "CMAKE_ARGS", "CMAKE_PREFIX_PATH", "CMAKE_GENERATOR",
    "CMAKE_CUDA_ARCHITECTURES", "CMAKE_CUDA_COMPILER", "CUDNN_HOME", "CUDNN_PATH", "ROCM_HOME", "ROCM_PATH",
    "TORCH_CUDA_ARCH_LIST", "TORCH_EXTENSIONS_DIR", "TORCH_DONT_CHECK_COMPILER_ABI", "TRITON_LIBCUDA_PATH",
    "TRITON_PTXAS_PATH", "TRITON_PTXAS_BLACKWELL_PATH", "TRITON_CACHE_DIR", "TRITON_HOME",
    "TVM_FFI_CACHE_DIR", "TVM_FFI_DISABLE_TORCH_C_DLPACK", "VIRTUAL_ENV", "CONDA_PREFIX",
    "CONDA_DEFAULT_ENV", "PYTHONPATH",
    "PYTHONHOME", "LOADEDMODULES", "TMPDIR", "XDG_CACHE_HOME", "VLLM_CACHE_ROOT", "TORCHINDUCTOR_CACHE_DIR",
    "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES",
    "BNB_CUDA_VERSION", "TMP", "TEMP", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
))  # fmt: skip
PREFIXES = ("FLASHINFER_", "VLLM_")
_SECRETS = ("KEY", "TOKEN", "SECRET", "PASSWORD")


def probe(host: Host, target: Target, request: Request | None = None) -> Environ:
    """Return the judged variables, and the folders of the PATH they come with."""
    current = {name: Variable(value, "environment") for name, value in host.environ.items() if _matters(name)}
    path = host.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin")
    if target.active:
        return Environ(current, "the current variables", _folders(host, path), host.cwd())
    before = {**current, "PATH": Variable(_path_after(host, target, path), "activation")}
    after = activation(host, target, before)
    judged = _judged(target)
    if request is not None and request.deep:
        after, judged = _really(host, target, before, after)
    set_path = after.pop("PATH", None)
    return Environ(after, judged, _folders(host, set_path.value if set_path else ""), host.cwd())


def _really(
    host: Host, target: Target, before: dict[str, Variable], told: dict[str, Variable]
) -> tuple[dict[str, Variable], str]:
    """Return what a real activation leaves; what files told of it where the shell does not get through."""
    start = {**host.environ, **{name: variable.value for name, variable in before.items()}}
    if target.kind in ("conda", "pixi"):
        start |= {**_conda_state(host, target.prefix), "CONDA_PREFIX": target.prefix}
    real = activated(host, target, start)
    if isinstance(real, str):
        return told, f"{_judged(target)}; a real activation failed: {real}"
    after = {}
    for name, value in real.items():
        if _matters(name) or name == "PATH":
            same = (v for v in (before.get(name), told.get(name)) if v is not None and v.value == value)
            after[name] = next(same, Variable(value, "activation"))
    return after, "the variables after a real activation, in a child shell"


def _judged(target: Target) -> str:
    if target.kind in ("conda", "pixi"):
        return "the current variables plus what activation would set (a launch without activation differs)"
    return "the current variables, with the environment's bin first on PATH (as after activation)"


def _matters(name: str) -> bool:
    return name in NAMES or (name.startswith(PREFIXES) and not name.endswith(_SECRETS))


def _folders(host: Host, path: str) -> tuple[str, ...]:
    """Return the folders of PATH that exist, once each: a PATH of 10,000 entries stays small."""
    unique = dict.fromkeys(entry or "." for entry in path.split(":")) if path else {}
    return tuple(entry for entry in unique if host.kind(entry) == "directory")


def _path_after(host: Host, target: Target, path: str) -> str:
    """Return PATH as activation leaves it: the environment it takes the place of is no longer on it."""
    left = host.environ.get("CONDA_PREFIX" if target.kind in ("conda", "pixi") else "VIRTUAL_ENV", "")
    kept = [entry for entry in path.split(":") if not left or entry.rstrip("/") != f"{left.rstrip('/')}/bin"]
    return ":".join([f"{target.prefix}/bin", *kept])


def activation(host: Host, target: Target, variables: dict[str, Variable]) -> dict[str, Variable]:
    """Return `variables` as the target's activation would leave them."""
    if target.kind not in ("conda", "pixi"):
        variables.pop("PYTHONHOME", None)
        after = {**variables, "VIRTUAL_ENV": Variable(target.prefix, "activation")}
        _apply_exports(host, target, f"{target.prefix}/bin/activate", _Shell(host, after))
        return after
    variables["CONDA_PREFIX"] = Variable(target.prefix, "activation")
    variables.pop("CONDA_DEFAULT_ENV", None)
    shell = _Shell(host, variables)
    for name, value in _conda_state(host, target.prefix).items():
        shell.assign(name, value, True, f"{target.prefix}/conda-meta/state")
    for file in activate_scripts(host, target.prefix):
        if not _apply_exports(host, target, file, shell):
            _apply_script(host, file, shell)
    return variables


def _apply_exports(host: Host, target: Target, file: str, shell: _Shell) -> bool:
    """Apply the exports that this program has put into a file; return whether it is such a file, unedited."""
    try:
        content = host.read(file, 1 << 20) if file.endswith(("/activate", "/cudadoctor.sh")) else b""
    except OSError:
        return False
    if b"# cudadoctor: " not in content:
        return False
    # Only here: most environments hold none.
    from cudadoctor.exports import from_script, outcome

    exports = from_script(target.kind, target.prefix, content)
    for export in exports or ():
        if not export.is_list or export.name not in shell.unknown:
            value = shell.get(export.name)
            now = {} if value is None else {export.name: value}
            shell.put(export.name, outcome([export], now, target.prefix)[export.name], file)
    return exports is not None


def activate_scripts(host: Host, prefix: str) -> list[str]:
    """Return the shell scripts that conda runs on activation, in its order."""
    folder = f"{prefix}/etc/conda/activate.d"
    try:
        return [f"{folder}/{name}" for name in host.list(folder) if name.endswith(".sh")]
    except OSError:
        return []


def _conda_state(host: Host, prefix: str) -> dict[str, str]:
    """Return the variables set with `conda env config vars set`, and before them those of packages."""
    found = {}
    folder = f"{prefix}/etc/conda/env_vars.d"
    try:
        files = [f"{folder}/{name}" for name in host.list(folder) if name.endswith(".json")]
    except OSError:
        files = []
    for file in files:
        found.update(_json_texts(host, file))
    state = _json_texts(host, f"{prefix}/conda-meta/state", "env_vars")
    return {**found, **{name: value for name, value in state.items() if value != "***unset***"}}


def _json_texts(host: Host, file: str, key: str = "") -> dict[str, str]:
    """Return the texts of a JSON object, or of the object under one of its keys; {} for anything else."""
    try:
        values = msgspec.json.decode(host.read(file))
    except (OSError, ValueError, RecursionError):
        return {}
    if key and isinstance(values, dict):
        values = values.get(key)
    return (
        {str(name).upper(): str(value) for name, value in values.items()} if isinstance(values, dict) else {}
    )


# --- what a shell would make of plain lines -----------------------------------------------------------------

_WORD = r"""(?:"[^"`\\]*"|'[^']*'|\$\{[^\s{}"'`\\]*\}|[^\s;&|"'`\\()<>{}])*"""
_SET = rf"[A-Za-z_]\w*={_WORD}"
_END = r"\s*(?:;\s*)?(?:(?<=[\s;])#.*)?"
_PLAIN = re.compile(rf"(?:(export)((?:\s+(?:{_SET}|[A-Za-z_]\w*))+)|({_SET}(?:\s+{_SET})*)){_END}")
_ASSIGNMENT = re.compile(rf"([A-Za-z_]\w*)(?:(=)({_WORD}))?(?=\s|$)")
_UNSET = re.compile(rf"unset((?:\s+[A-Za-z_]\w*)+){_END}")
_OPENS = re.compile(r"(?:^|[;&|(]\s*|\b(?:then|else|do)\s+)(?:if|for|while|until|case|select)\b|\{$")
_CLOSES = re.compile(r"(?:^|[;&|]\s*)(?:fi|done|esac|\})(?=$|[\s;&|)])")
_TOUCHED = re.compile(r"([A-Za-z_]\w*)\+?=|\b(?:read|for|unset|export)\s+([A-Za-z_]\w*)")
_PIECE = re.compile(r""""([^"]*)"|'([^']*)'|([^"']+)""")
_REFERENCE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)(?:(:?[-+])((?:[^{}]|\$\{[^{}]*\})*))?\}|)")
_RETURNS = re.compile(r"(?:^|[;&|]\s*|\b(?:then|else|do)\s+)(?:return|exit)\b")
_LINE_LIMIT = 8192


def _apply_script(host: Host, file: str, shell: _Shell) -> None:
    """Apply a script's plain lines: `export NAME=value` and the like, with no condition over them.

    What rests on anything else (a command's output, a variable set under a condition) is left as it was.
    """
    try:
        text = host.read(file, 1 << 20).decode("utf-8", "surrogateescape")
    except OSError:
        return
    depth = braces = 0
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#") or len(line) > _LINE_LIMIT:
            continue
        if depth or not shell.take(line, f"{file}:{number}"):
            shell.unknown.update(name for names in _TOUCHED.findall(line) for name in names)
            depth = max(0, depth + len(_OPENS.findall(line)) - len(_CLOSES.findall(line)))
            braces = max(0, braces + line.endswith("{") - line.startswith("}"))
            if not braces and _RETURNS.search(line):
                return  # outside a function: all that follows hangs on the condition over it


class _Shell:
    """A shell's variables, as far as plain lines tell; `unknown` are the names that others touch."""

    def __init__(self, host: Host, variables: dict[str, Variable]) -> None:
        self.host, self.variables = host, variables
        self.values: dict[str, str | None] = {}
        self.unknown = {"CONDA_DEFAULT_ENV", "CONDA_SHLVL", "CONDA_PROMPT_MODIFIER"}

    def take(self, line: str, origin: str) -> bool:
        """Apply a plain line; return whether it is one."""
        if match := _UNSET.fullmatch(line):
            for name in match[1].split():
                self.unset(name)
        elif match := _PLAIN.fullmatch(line):
            for name, given, word in _ASSIGNMENT.findall(match[2] or match[3]):
                if given or name in self.unknown or self.get(name) is not None:
                    value = self.word(word) if given else self.expand(f"${name}")
                    self.assign(name, value, bool(match[1]), origin)
        return match is not None

    def put(self, name: str, value: str | None, origin: str) -> None:
        """Export a variable, or with None unset it."""
        if value is None:
            self.unset(name)
        else:
            self.assign(name, value, True, origin)

    def unset(self, name: str) -> None:
        """Unset a variable."""
        self.values[name] = None
        self.variables.pop(name, None)
        self.unknown.discard(name)

    def assign(self, name: str, value: str | None, exported: bool, origin: str) -> None:
        """Set a variable, or with None note that it cannot be told."""
        if value is None:
            self.unknown.add(name)
            return
        self.unknown.discard(name)
        self.values[name] = value
        # A variable that is exported already stays so, whichever way it is set.
        if (exported or name in self.host.environ) and (_matters(name) or name == "PATH"):
            self.variables[name] = Variable(value, origin)

    def word(self, text: str) -> str | None:
        """Return what a word with quotes stands for; None where it needs a shell to know."""
        parts: list[str | None] = []
        for double, single, bare in _PIECE.findall(text):
            home = bare.startswith("~") or ":~" in bare
            parts.append(single or (None if home else self.expand(double or bare)))
        return None if None in parts else "".join(part for part in parts if part)

    def expand(self, text: str) -> str | None:
        """Expand plain references; None where one is not plain, or names what cannot be told."""
        told = True

        def value(match: re.Match[str]) -> str:
            nonlocal told
            name, form, other = match[1] or match[2], match[3], match[4]
            if not name or name in self.unknown:
                told = False
                return ""
            known = self.get(name)
            there = known is not None and (known != "" or form in ("-", "+"))
            if not form or (there and form.endswith("-")):
                return known or ""
            taken = self.expand(other) if there == form.endswith("+") else ""
            told = told and taken is not None
            return taken or ""

        expanded = _REFERENCE.sub(value, text)
        return expanded if told else None

    def get(self, name: str) -> str | None:
        """Return a variable's value, or None where it is not set."""
        if name in self.values:
            return self.values[name]
        return self.variables[name].value if name in self.variables else self.host.environ.get(name)
