"""The target and its variables, packages and machine."""

from __future__ import annotations

from msgspec import Struct

from cudadoctor.facts.section import Section


class Target(Section, frozen=True):
    """The Python environment that is diagnosed."""

    prefix: str
    kind: str  #: conda, pixi, venv, virtualenv, uv, pyenv, system
    python: str  #: the interpreter's path; empty where the environment has none
    version: str  #: as precise as files tell: "3.11.7", or "3.11", or ""
    base_prefix: str  #: where the interpreter, its library and Python.h come from
    site_packages: tuple[str, ...]
    include: str  #: the folder that Python.h belongs into
    chosen_by: str  #: "VIRTUAL_ENV", "--prefix", "python3 on PATH", ...
    active: bool  #: whether the current variables are this environment's own
    notes: tuple[str, ...] = ()
    lock_file: str = ""  #: of the project that owns the environment: its next sync reverts what is installed


class Variable(Struct, frozen=True):
    """One variable as the launched program will see it, and where the value comes from."""

    value: str
    origin: str  #: "environment", or the activation file and line that sets it


class Environ(Section, frozen=True):
    """The variables that are judged: the current ones, or what activation would make of them."""

    variables: dict[str, Variable]
    judged: str  #: in words: whose variables these are
    path: tuple[str, ...] = ()  #: the folders of PATH that exist, in order, without repetition
    cwd: str = ""

    def get(self, name: str) -> str | None:
        """Return the value of `name`, or None where it is not set."""
        variable = self.variables.get(name)
        return None if variable is None else variable.value

    def entries(self, name: str) -> list[str]:
        """Return the entries of a list of folders, empty ones too; the loader's is split at `;` as well."""
        value = self.get(name)
        if value is None or (value == "" and name == "LD_LIBRARY_PATH"):
            return []
        return (value.replace(";", ":") if name == "LD_LIBRARY_PATH" else value).split(":")

    def where(self, name: str) -> str:
        """Return where `name` is set, for evidence: the variable itself or the activation file."""
        variable = self.variables.get(name)
        if variable is None or variable.origin == "environment":
            return name
        return f"{name} ({variable.origin})"


class Distribution(Struct, frozen=True, omit_defaults=True):
    """One installed Python distribution, by its metadata folder."""

    name: str  #: normalised: lower case, single dashes
    version: str
    location: str  #: the site-packages folder it is in
    installer: str = ""  #: of the CUDA stack, and of everything in a conda environment
    requires: tuple[str, ...] = ()  #: Requires-Dist lines, but for those of extras (cuda-toolkit's are kept)
    problem: str = ""  #: why its metadata could not be read
    python: str = ""  #: Requires-Python: ">=3.9"
    file: str = ""  #: the file that tells all this, from `location` on: "torch-2.9.0.dist-info/METADATA"
    conda: str = ""  #: conda's record of the same project, where another installer put this over conda's
    own_file: str = ""  #: of two in one folder: a file there that is this one's, and not the other's

    @property
    def path(self) -> str:
        """Return the file or folder that shows that it is installed."""
        return f"{self.location}/{self.file}" if self.file else self.location


class TorchBuild(Struct, frozen=True, omit_defaults=True):
    """What `torch/version.py` says of the installed torch."""

    version: str
    root: str
    cuda: str = ""  #: "13.0"; empty for a CPU-only build
    hip: str = ""


class FlashInfer(Struct, frozen=True, omit_defaults=True):
    """What the installed FlashInfer says of its JIT builds."""

    version: str
    ldflags: tuple[str, ...]  #: its fixed link flags, `$cuda_home` left as a variable
    ldflags_source: str  #: the file they were read from, or "known form" and the version
    jit_cache: str = ""  #: version of flashinfer-jit-cache, which brings most operators prebuilt


class Triton(Struct, frozen=True, omit_defaults=True):
    """What the installed Triton says of the C launcher that it compiles at run time."""

    version: str
    root: str
    libraries: tuple[str, ...]  #: as its driver.py names them: "cuda" or "libcuda.so.1"
    source: str


class Packages(Section, frozen=True):
    """The installed Python distributions."""

    distributions: tuple[Distribution, ...]
    torch: TorchBuild | None = None
    flashinfer: FlashInfer | None = None
    triton: Triton | None = None
    unreadable: tuple[str, ...] = ()  #: site-packages folders that could not be listed, with the reason
    target: Target | None = None  #: the environment that they are installed in

    def find(self, name: str) -> Distribution | None:
        """Return the first distribution called `name` (normalised), or None."""
        return next((d for d in self.distributions if d.name == name), None)


class CondaRecord(Struct, frozen=True, omit_defaults=True):
    """One package of a conda environment, by its record in conda-meta."""

    name: str
    version: str
    build: str = ""
    channel: str = ""
    problem: str = ""


class Conda(Section, frozen=True):
    """The CUDA and compiler packages of a conda environment; `prefix` is empty where there is none."""

    prefix: str
    records: tuple[CondaRecord, ...] = ()
    count: int = 0
    cuda_version: str = ""  #: version of the `cuda-version` metapackage
    activation: tuple[str, ...] = ()  #: files in etc/conda/activate.d

    def find(self, name: str) -> CondaRecord | None:
        """Return the record called `name`, or None."""
        return next((r for r in self.records if r.name == name), None)


class Machine(Section, frozen=True):
    """The host: what limits a build on it."""

    arch: str
    system: str
    release: str  #: of the operating system: "Debian GNU/Linux 12"
    kernel: str
    cores: int  #: that this process may use
    memory_total_bytes: int
    memory_available_bytes: int  #: the smaller of what the system and the container leave
    stack_soft_kib: int | None  #: None: unlimited
    stack_hard_kib: int | None
    container: str = ""  #: docker, podman, kubernetes, lxc, ...
    wsl: bool = False
    home: str = ""
    modules: tuple[str, ...] = ()  #: environment modules loaded (LOADEDMODULES)
