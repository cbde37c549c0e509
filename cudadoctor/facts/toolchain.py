"""CUDA toolkits, compilers and the programs of a build."""

from __future__ import annotations

from msgspec import Struct

from cudadoctor.facts.section import Section


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
    python_header_barred: str = ""  #: the folder that hides whether one of these is there
