"""The variables that a launch in the target environment will see.

An active target is judged by the current variables. An inactive one by the current variables plus what
its activation would set, as far as files tell: conda's own state file, and plain `export NAME=value` lines
in activate.d. Nothing is executed here.
"""

from __future__ import annotations

import re

from cudadoctor.facts import Environ, Target, Variable
from cudadoctor.host import Host

#: Variables that some tool of a CUDA build reads. Names that can hold a secret have no place here.
NAMES = frozenset(
    """
    CUDA_HOME CUDA_PATH CUDA_ROOT CUDA_LIB_PATH CUDA_INC_PATH CUDAToolkit_ROOT CUDACXX CUDAHOSTCXX CUDAFLAGS
    LIBRARY_PATH LD_LIBRARY_PATH LD_PRELOAD LD_RUN_PATH CPATH C_INCLUDE_PATH CPLUS_INCLUDE_PATH
    CC CXX CFLAGS CXXFLAGS CPPFLAGS LDFLAGS COMPILER_PATH GCC_EXEC_PREFIX
    NVCC_CCBIN NVCC_PREPEND_FLAGS NVCC_APPEND_FLAGS NVCC_THREADS PYTORCH_NVCC MAX_JOBS
    CMAKE_ARGS CMAKE_PREFIX_PATH CMAKE_GENERATOR CMAKE_CUDA_ARCHITECTURES CMAKE_CUDA_COMPILER
    CUDNN_HOME CUDNN_PATH ROCM_HOME ROCM_PATH
    TORCH_CUDA_ARCH_LIST TORCH_EXTENSIONS_DIR TORCH_DONT_CHECK_COMPILER_ABI
    TRITON_LIBCUDA_PATH TRITON_PTXAS_PATH TRITON_CACHE_DIR TVM_FFI_CACHE_DIR TVM_FFI_DISABLE_TORCH_C_DLPACK
    VIRTUAL_ENV CONDA_PREFIX CONDA_DEFAULT_ENV PYTHONPATH PYTHONHOME LOADEDMODULES TMPDIR
    """.split()
)
PREFIXES = ("FLASHINFER_",)

#: Variables that hold a list of folders, separated by colons.
FOLDER_LISTS = ("LIBRARY_PATH", "LD_LIBRARY_PATH", "CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH")


def probe(host: Host, target: Target) -> Environ:
    """Return the judged variables, and the folders of the PATH they come with."""
    current = {name: Variable(value, "environment") for name, value in host.environ.items() if _matters(name)}
    path = host.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin")
    if target.active:
        return Environ(current, "the current variables", _folders(host, path), host.cwd())
    added = activation(host, target, dict(current))
    path = f"{target.prefix}/bin:{path}"
    return Environ(added, _judged(target), _folders(host, path), host.cwd())


def _judged(target: Target) -> str:
    if target.kind in ("conda", "pixi"):
        return "the current variables plus what activation would set (a launch without activation differs)"
    return "the current variables, with the environment's bin first on PATH (as after activation)"


def _matters(name: str) -> bool:
    return name in NAMES or name.startswith(PREFIXES)


def _folders(host: Host, path: str) -> tuple[str, ...]:
    """Return the folders of PATH that exist, once each: a PATH of 10,000 entries stays small."""
    unique = dict.fromkeys(entry or "." for entry in path.split(":"))
    return tuple(entry for entry in unique if host.kind(entry) == "directory")


def activation(host: Host, target: Target, variables: dict[str, Variable]) -> dict[str, Variable]:
    """Return `variables` as the target's activation would leave them."""
    if target.kind in ("conda", "pixi"):
        variables["CONDA_PREFIX"] = Variable(target.prefix, "activation")
        for file in activate_scripts(host, target.prefix):
            _apply_script(host, file, variables)
        for name, value in _conda_state(host, target.prefix).items():
            if _matters(name):
                variables[name] = Variable(value, f"{target.prefix}/conda-meta/state")
    else:
        variables["VIRTUAL_ENV"] = Variable(target.prefix, "activation")
    return variables


def activate_scripts(host: Host, prefix: str) -> list[str]:
    """Return the shell scripts that conda runs on activation, in its order."""
    folder = f"{prefix}/etc/conda/activate.d"
    try:
        return [f"{folder}/{name}" for name in host.list(folder) if name.endswith(".sh")]
    except OSError:
        return []


def _conda_state(host: Host, prefix: str) -> dict[str, str]:
    """Return the variables set with `conda env config vars set`."""
    import msgspec

    try:
        state = msgspec.json.decode(host.read(f"{prefix}/conda-meta/state"))
        values = state.get("env_vars", {}) if isinstance(state, dict) else {}
    except (OSError, msgspec.DecodeError):
        return {}
    return {str(name): str(value) for name, value in values.items()} if isinstance(values, dict) else {}


_EXPORT = re.compile(r"""^\s*export\s+([A-Za-z_]\w*)=(?:"([^"`\\]*)"|'([^']*)'|([^\s;&|"'`\\]*))\s*(?:[;#].*)?$""")
_REFERENCE = re.compile(r"\$(?:\{(\w+)(?::?[-+]([^}]*))?\}|(\w+))")


def _apply_script(host: Host, file: str, variables: dict[str, Variable]) -> None:
    try:
        text = host.read(file, 1 << 20).decode("utf-8", "surrogateescape")
    except OSError:
        return
    for number, line in enumerate(text.splitlines(), 1):
        match = _EXPORT.match(line)
        if match is None or not _matters(match[1]):
            continue
        literal = match[3]
        value = literal if literal is not None else _expand(match[2] or match[4] or "", variables, host)
        if value is not None:
            variables[match[1]] = Variable(value, f"{file}:{number}")


def _expand(text: str, variables: dict[str, Variable], host: Host) -> str | None:
    """Expand plain references; None where the value needs a shell to know."""
    if "$(" in text:
        return None

    def value(match: re.Match[str]) -> str:
        name, alternative = match[1] or match[3], match[2]
        known = variables[name].value if name in variables else host.environ.get(name, "")
        if alternative is None:
            return known
        if "+" in match[0][: match[0].index(alternative) or None]:
            return (_expand(alternative, variables, host) or "") if known else ""
        return known or alternative

    return _REFERENCE.sub(value, text)
