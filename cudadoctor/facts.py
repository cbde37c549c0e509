"""What was seen: frozen sections, one a probe, that a check can judge without touching the machine.

Every path is a string as the machine gave it, never normalised: `/x/link/../lib` and `/x/lib` can be two
folders. Strings compare equal exactly when the probe saw the same spelling.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class Unknown(Struct, frozen=True, tag_field="probe", tag="unknown"):
    """A section that could not be had: not the same as a thing that is absent.

    `expected`: nobody asked for the section (`--deep` not given), so a check that needs it is skipped instead
    of inconclusive. `crashed`: the probe has a bug, so the check could not run at all.
    """

    reason: str
    expected: bool = False
    crashed: bool = False


class Section(Struct, frozen=True, tag_field="probe", tag="done", omit_defaults=True):
    """What one probe saw."""


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
    installer: str = ""
    requires: tuple[str, ...] = ()  #: Requires-Dist lines, read for the CUDA stack only
    problem: str = ""  #: why its metadata could not be read
    recorded: bool = False  #: whether RECORD lists its files, without which pip cannot remove it; stack only


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


class HeaderDirectory(Struct, frozen=True, omit_defaults=True):
    """Which of the known CUDA headers an include folder has, and the version they state."""

    exists: bool
    headers: tuple[str, ...] = ()
    cudart_version: str = ""  #: "13.0", from CUDART_VERSION in cuda_runtime_api.h
    gcc_limit: int | None = None  #: highest GCC major that crt/host_config.h accepts
    clang_limit: int | None = None  #: highest Clang major that crt/host_config.h accepts


class Toolkit(Struct, frozen=True, omit_defaults=True):
    """One CUDA toolkit, or the part of one, within reach."""

    root: str
    real: str  #: root with every link resolved
    layout: str  #: cuda, conda, conda-target, pip-cu13, pip-cu12, debian, hpc-sdk
    version: str  #: of nvcc where there is one ("13.0.88"), else of the headers ("13.0"), else ""
    version_source: str
    found_by: tuple[str, ...]
    nvcc: str = ""  #: path; empty where this toolkit has none
    include: tuple[str, ...] = ()
    lib: tuple[str, ...] = ()  #: folders that hold its libraries
    stubs: tuple[str, ...] = ()  #: folders that hold its stub libraries
    spellings: tuple[str, ...] = ()  #: every path that led to it, where there is more than one


class NvccOnPath(Struct, frozen=True, omit_defaults=True):
    """The first `nvcc` on PATH, and what it really is."""

    path: str
    kind: str  #: binary, link, script
    runs: str = ""  #: the nvcc that a script starts or a link points to
    evidence: str = ""  #: the line of the script


class Selection(Struct, frozen=True):
    """The toolkit root that one consumer will take, and by what rule of its own."""

    consumer: str  #: flashinfer, torch, tvm-ffi, cmake
    root: str
    rule: str
    has_nvcc: bool
    exists: bool


class Toolkits(Section, frozen=True):
    """Every CUDA toolkit within reach, and which one each consumer selects."""

    toolkits: tuple[Toolkit, ...]
    selections: tuple[Selection, ...]
    headers: dict[str, HeaderDirectory]
    nvcc_on_path: NvccOnPath | None = None

    def selected(self, consumer: str) -> Selection | None:
        """Return what `consumer` selects, or None where it would find nothing."""
        return next((s for s in self.selections if s.consumer == consumer), None)

    def at(self, root: str) -> Toolkit | None:
        """Return the toolkit at `root`, by any spelling that led to it or by the place it resolves to."""
        root = root.rstrip("/") or root
        for toolkit in self.toolkits:
            if root in {path.rstrip("/") for path in (toolkit.root, toolkit.real, *toolkit.spellings)}:
                return toolkit
        return None


class LinkSearch(Struct, frozen=True, omit_defaults=True):
    """Where a compiler driver makes the linker look, in order.

    An entry is a folder, `{-L}` for the folders that the command line names, or a template that starts
    with `{LIBRARY_PATH}` and is repeated for each entry of that variable.
    """

    entries: tuple[str, ...]
    linker: str = ""  #: the program: /usr/bin/ld
    machine: str = ""  #: x86_64, aarch64
    bits: int = 64
    single_pass: bool = False  #: clang hands LIBRARY_PATH on as it is, GCC looks in several forms of it


class Compiler(Struct, frozen=True, omit_defaults=True):
    """One host compiler."""

    command: str  #: as configured: "g++", "/usr/bin/g++-12", "ccache g++"
    path: str  #: the first word found on PATH; empty where there is none
    family: str = ""  #: gcc, clang, nvc++
    version: str = ""
    triple: str = ""
    search: LinkSearch | None = None
    problem: str = ""


class CompilerUse(Struct, frozen=True):
    """Which compiler one consumer will use for one job, and by what rule."""

    consumer: str  #: flashinfer, torch, tvm-ffi, triton, cmake
    job: str  #: link (host C++ and the link), device (nvcc's host compiler), stub (Triton's C launcher)
    command: str
    rule: str


class Compilers(Section, frozen=True):
    """The host compilers, and who uses which."""

    compilers: dict[str, Compiler]  #: by command
    uses: tuple[CompilerUse, ...]

    def used_by(self, consumer: str, job: str) -> tuple[CompilerUse, Compiler] | None:
        """Return the compiler that `consumer` uses for `job`, or None where it uses none."""
        for use in self.uses:
            if use.consumer == consumer and use.job == job and use.command in self.compilers:
                return use, self.compilers[use.command]
        return None


class BuildTool(Struct, frozen=True, omit_defaults=True):
    """A build program: where it was found, and where it was looked for."""

    path: str = ""
    version: str = ""
    elsewhere: str = ""  #: found in the environment, but not on the PATH that is judged


class BuildTools(Section, frozen=True):
    """Programs and headers that a build needs beside the compiler."""

    tools: dict[str, BuildTool]  #: ninja, cmake, ccache
    python_header: str  #: path of the Python.h found, or empty
    python_header_looked: tuple[str, ...] = ()


LibraryKind = Literal[
    "shared", "object", "executable", "archive", "script", "text", "empty",
    "dangling", "loop", "directory", "special", "unreadable", "unrecognised",
]  # fmt: skip


class LibraryFile(Struct, frozen=True, omit_defaults=True):
    """What stands at one library name in one folder, as far as the linker cares."""

    kind: LibraryKind
    machine: str = ""  #: of an ELF file, or of an archive's first member
    bits: int = 0
    link: str = ""  #: text of the symbolic link
    resolved: str = ""  #: where the link ends, or would end
    members: tuple[str, ...] = ()  #: what a linker script names: "/lib/x.so", "-lfoo", "foo.so"
    output_format: str = ""  #: OUTPUT_FORMAT of a linker script
    reason: str = ""


class LinkDirectory(Struct, frozen=True, omit_defaults=True):
    """One folder a linker or loader may look in: only the file names that were asked about."""

    exists: bool
    files: dict[str, LibraryFile] = {}
    real: str = ""  #: the folder with links resolved, where that differs
    reason: str = ""  #: why it could not be read


class Libraries(Section, frozen=True):
    """What the link and loader folders hold of the libraries that link lines name."""

    directories: dict[str, LinkDirectory]
    names: tuple[str, ...]  #: the file names that were looked for: "libcudart.so", "libcudart.a", ...
    absolute: dict[str, LibraryFile] = {}  #: files that linker scripts name by their whole path
    driver: tuple[str, ...] = ()  #: paths of libcuda.so.1 in the loader's cache


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


class ConfiguredOp(Struct, frozen=True, omit_defaults=True):
    """One operator of FlashInfer that is set up to be built, and by what its build.ninja builds it.

    Lists hold one flag an entry, as FlashInfer writes them: `$cuda_home` stays a variable.
    """

    path: str  #: its folder
    name: str
    cuda_home: str
    cxx: str
    nvcc: str
    cflags: tuple[str, ...] = ()
    cuda_cflags: tuple[str, ...] = ()
    ldflags: tuple[str, ...] = ()
    cuda_home_real: str = ""  #: cuda_home with links resolved, where that differs


class CacheFolder(Struct, frozen=True):
    """One folder that holds nothing but what compilers of the stack made and would make again."""

    name: str  #: flashinfer, torch-extensions, triton, vllm-compile, torchinductor, tvm-ffi
    path: str  #: links in front of its own name resolved
    source: str  #: the variable that says where, or "the default"


class Lock(Struct, frozen=True, omit_defaults=True):
    """One lock file of a build.

    A baton holds as long as its file exists, whoever made it. An advisory lock ends with its process, and a
    file that is left over holds nothing.
    """

    path: str
    kind: str  #: baton, advisory
    held: bool | None = None  #: whether a live process holds it; None: that cannot be told
    doubt: str = ""  #: why it cannot be told


class Caches(Section, frozen=True):
    """What just-in-time builds left behind."""

    ops: tuple[ConfiguredOp, ...] = ()  #: FlashInfer's, configured but not built; none where it `rewrites`
    rewrites: bool = False  #: FlashInfer writes build.ninja anew before each build
    folders: tuple[CacheFolder, ...] = ()  #: those that exist and are this user's own
    locks: tuple[Lock, ...] = ()

    def builds_in(self, folder: str) -> tuple[Lock, ...]:
        """Return the locks below `folder` that a live process holds."""
        inside = f"{folder.rstrip('/')}/"
        return tuple(lock for lock in self.locks if lock.held and lock.path.startswith(inside))


class OpenRun(Struct, frozen=True):
    """One run of repairs that was left half done."""

    name: str  #: 2026-11-21-1
    status: str  #: interrupted, undo interrupted
    journal: str
    busy: bool  #: a live process is at it


class Repairs(Section, frozen=True):
    """What repairs of this program have left in the environment."""

    runs: int = 0
    open: tuple[OpenRun, ...] = ()
    problem: str = ""  #: why a journal could not be read
    pending: tuple[str, ...] = ()  #: variables that activation now sets otherwise than the current ones are
    source: str = ""  #: the activation file that sets them


class Trial(Struct, frozen=True, omit_defaults=True):
    """One real command that `--deep` ran, and how it ended."""

    name: str
    consumer: str
    command: tuple[str, ...]
    ended: str  #: ok, error, segfault, killed, memory, disk, crash, timeout, not-run
    status: int = 0
    message: str = ""  #: the line of the output that tells
    level: str = ""  #: optimisation level, where it is one rung of the ladder
    compiler: str = ""  #: the host compiler, as `Compilers` calls it
    seconds: float = 0.0  #: how long it ran


class Deep(Section, frozen=True):
    """What happened when the real compiler and linker were run in a temporary folder."""

    trials: tuple[Trial, ...]


NOT_COLLECTED = Unknown("not collected", expected=True)


class Facts(Struct, frozen=True):
    """Everything that was seen, by section. A section that no check needed is Unknown."""

    target: Target | Unknown = NOT_COLLECTED
    environ: Environ | Unknown = NOT_COLLECTED
    packages: Packages | Unknown = NOT_COLLECTED
    conda: Conda | Unknown = NOT_COLLECTED
    toolkits: Toolkits | Unknown = NOT_COLLECTED
    compilers: Compilers | Unknown = NOT_COLLECTED
    tools: BuildTools | Unknown = NOT_COLLECTED
    libraries: Libraries | Unknown = NOT_COLLECTED
    machine: Machine | Unknown = NOT_COLLECTED
    caches: Caches | Unknown = NOT_COLLECTED
    repairs: Repairs | Unknown = NOT_COLLECTED
    deep: Deep | Unknown = NOT_COLLECTED


SECTIONS: tuple[str, ...] = Facts.__struct_fields__
