"""The variables that a launch in the target environment will see.

An active target is judged by the current variables. An inactive one by the current variables plus what
its activation would set, as far as files tell: conda's own state file, the plain `export NAME=value`
lines in activate.d, and the exports that this program has put into activation files. Nothing is executed but
with `--deep`, which activates it in a child shell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import structs

from cudadoctor.facts import Environ, Target, Variable
from cudadoctor.host import Host
from cudadoctor.probes.activation import activated
from cudadoctor.probes.target import Asked, Request

if TYPE_CHECKING:
    from cudadoctor.actions import Export
    from cudadoctor.probes.shell import Shell

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
#: A name with one of these, or an address of this machine, is no business of a report's.
_PRIVATE = ("KEY", "TOKEN", "SECRET", "PASS", "AUTH", "CRED", "HOST_IP")


def probe(host: Host, target: Target, request: Request | None = None) -> Environ:
    """Return the judged variables, and the folders of the PATH they come with."""
    asked = request.launch if request is not None else None
    found = _probed(host, target, request)
    return found if asked is None else _launched(host, found, asked)


def _launched(host: Host, found: Environ, asked: Asked) -> Environ:
    """Return the variables with those that the command itself sets, or takes away.

    A container gets none of these; what it gets is in the launch.
    """
    from cudadoctor.probes import launch

    read = launch.read(host, asked)
    if read.contained or not (read.variables or read.unset or read.clean or read.doubtful):
        return found
    kept = {} if read.clean else {n: v for n, v in found.variables.items() if n not in read.unset}
    own = {name: value for name, value in read.variables.items() if _matters(name)}
    path = _folders(host, read.variables["PATH"].value) if "PATH" in read.variables else found.path
    judged = f"{found.judged}, with those of the command"
    if doubtful := [name for name in read.doubtful if _matters(name) or name == "PATH"]:
        judged += f", but for {', '.join(doubtful)}: what that is set to is not known"
    return structs.replace(found, variables={**kept, **own}, judged=judged, path=path)


def _probed(host: Host, target: Target, request: Request | None) -> Environ:
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
    return name in NAMES or (name.startswith(PREFIXES) and not any(part in name for part in _PRIVATE))


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
        file = f"{target.prefix}/bin/activate"
        if exports := _exports_in(host, target, file):
            _apply_exports(exports, target, file, _shell(host, after))
        return after
    from cudadoctor.probes.shell import apply_script  # the reader of shell lines: for conda alone

    variables["CONDA_PREFIX"] = Variable(target.prefix, "activation")
    variables.pop("CONDA_DEFAULT_ENV", None)
    shell = _shell(host, variables)
    for name, value in _conda_state(host, target.prefix).items():
        shell.assign(name, value, True, f"{target.prefix}/conda-meta/state")
    for file in activate_scripts(host, target.prefix):
        exports = _exports_in(host, target, file)
        if exports is None:
            apply_script(host, file, shell)
        else:
            _apply_exports(exports, target, file, shell)
    return variables


def _shell(host: Host, variables: dict[str, Variable]) -> Shell:
    from cudadoctor.probes.shell import Shell

    return Shell(host, variables, lambda name: _matters(name) or name == "PATH")


def _exports_in(host: Host, target: Target, file: str) -> tuple[Export, ...] | None:
    """Return the exports that this program has put into a file; None where it did not, or it was edited."""
    try:
        content = host.read(file, 1 << 20) if file.endswith(("/activate", "/cudadoctor.sh")) else b""
    except OSError:
        return None
    if b"# cudadoctor: " not in content:
        return None
    from cudadoctor.exports import from_script

    return from_script(target.kind, target.prefix, content)


def _apply_exports(exports: tuple[Export, ...], target: Target, file: str, shell: Shell) -> None:
    from cudadoctor.exports import outcome

    for export in exports:
        if not export.is_list or export.name not in shell.unknown:
            value = shell.get(export.name)
            now = {} if value is None else {export.name: value}
            shell.put(export.name, outcome([export], now, target.prefix)[export.name], file)


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
