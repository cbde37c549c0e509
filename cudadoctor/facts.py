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
    installer: str = ""  #: of the CUDA stack, and of everything in a conda environment
    requires: tuple[str, ...] = ()  #: Requires-Dist lines, but for those of extras (cuda-toolkit's are kept)
    problem: str = ""  #: why its metadata could not be read
    recorded: bool = False  #: whether RECORD lists its files, without which pip cannot remove it; stack only
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


class VersionNeed(Struct, frozen=True, omit_defaults=True):
    """The versions that a shared object needs of another: of libstdc++.so.6 GLIBCXX_3.4.29."""

    file: str  #: as DT_NEEDED names it
    names: tuple[str, ...]
    weak: tuple[str, ...] = ()  #: those that may be missing


class SharedObject(Struct, frozen=True, omit_defaults=True):
    """What one ELF file tells the loader."""

    soname: str = ""
    needed: tuple[str, ...] = ()
    rpath: str | None = None  #: None: it has none; an empty RUNPATH still switches RPATH off
    runpath: str | None = None
    no_default_folders: bool = False  #: linked with -z nodeflib
    executable: bool = False  #: a program, which cannot be loaded as a library
    interpreter: str = ""
    requires: tuple[VersionNeed, ...] = ()
    provides: tuple[str, ...] = ()  #: the versions it defines; none: nobody checks
    machine: str = ""
    bits: int = 0
    big_endian: bool = False
    problem: str = ""  #: why the loader stops at it: "file too short"
    real: str = ""  #: its path with links resolved, where that differs from the one it was found by


class CachedLibrary(Struct, frozen=True, omit_defaults=True):
    """One entry of the loader's cache."""

    path: str
    hwcaps: str = ""  #: the CPU level it is for: x86-64-v3


class DynamicLoader(Struct, frozen=True, omit_defaults=True):
    """The loader that starts the target's Python, and what is compiled into it."""

    path: str
    machine: str
    bits: int
    folders: tuple[str, ...]  #: where it looks last
    lib: str  #: what it puts in for $LIB
    platform: str = ""  #: what it puts in for $PLATFORM; "": an entry with it is left out
    subfolders: tuple[str, ...] = ()  #: of every folder, for this CPU, the best first
    preload: tuple[str, ...] = ()  #: what /etc/ld.so.preload names


class Extension(Struct, frozen=True):
    """One compiled extension of the stack, which Python opens by its path."""

    path: str
    distribution: str


class SharedObjects(Section, frozen=True):
    """What the loader finds for the compiled extensions of the stack: files, by the paths it tries.

    A path that is in neither table is one where nothing is, or that nobody asked about.
    """

    loader: DynamicLoader | None  #: None: not the GNU loader, or no interpreter that can be read
    python: str = ""  #: the interpreter's file, links resolved
    first: tuple[str, ...] = ()  #: what torch opens before its extension: global dependencies, then CUDA's
    fallback: tuple[str, ...] = ()  #: what torch opens of CUDA's where its global dependencies cannot be
    extensions: tuple[Extension, ...] = ()
    files: dict[str, SharedObject] = {}  #: by the path that it was first found by
    paths: dict[str, str] = {}  #: other paths of these files; to "": one that cannot be opened, as in a loop
    subfolders: dict[str, tuple[str, ...]] = {}  #: of the loader's, those that a folder has
    cached: dict[str, tuple[CachedLibrary, ...]] = {}  #: the loader's cache, for the names asked about
    elsewhere: dict[str, tuple[str, ...]] = {}  #: where a library is that the loader does not find
    undefined: dict[str, tuple[str, ...]] = {}  #: symbols that a library in the way lacks, by its path
    reason: str = ""  #: why there is no loader


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


class DriverLibrary(Struct, frozen=True, omit_defaults=True):
    """One libcuda.so.1; those that the loader reaches come first, in the order in which it looks."""

    path: str
    found_by: str  #: LD_LIBRARY_PATH, the loader's cache, a usual place
    real: str = ""  #: with links resolved, where that differs
    version: str = ""  #: the driver's, from the name of the real file; that of WSL has none
    compat: bool = False  #: it is of a forward-compatibility package (cuda-compat)
    reached: bool = True  #: whether the loader would come across it


class DeviceNode(Struct, frozen=True):
    """One device file of the driver, and whether this user may open it."""

    path: str
    usable: bool


class PciGpu(Struct, frozen=True, omit_defaults=True):
    """One NVIDIA GPU on the PCI bus."""

    address: str  #: 0000:01:00.0
    device: str  #: 0x2204
    driver: str = ""  #: the kernel module that has it: nvidia, nouveau, vfio-pci


class GpuProcess(Struct, frozen=True):
    """One process that holds memory of a GPU."""

    pid: int  #: as the driver counts: of the host, even in a container
    memory_bytes: int | None  #: None where the driver does not say


class Gpu(Struct, frozen=True, omit_defaults=True):
    """One GPU as NVML tells of it; memory is None where it is not reported, as with memory that is shared."""

    index: int
    name: str = ""
    capability: str = ""  #: compute capability: "8.6"
    uuid: str = ""  #: as much of it as CUDA_VISIBLE_DEVICES needs and no more: "GPU-1a2b3c4d"
    memory_total_bytes: int | None = None
    memory_used_bytes: int | None = None
    memory_free_bytes: int | None = None
    mig: bool | None = None  #: None where the GPU cannot be partitioned
    mig_devices: tuple[str, ...] = ()  #: "MIG-1a2b3c4d"
    fabric: str = ""  #: not-started, in-progress, completed, or failed and NVML's error; "" where it has none
    processes: tuple[GpuProcess, ...] = ()
    problem: str = ""  #: the first error that says that the GPU itself does not work: NVML_ERROR_GPU_IS_LOST


class Nvml(Struct, frozen=True, omit_defaults=True):
    """How it went to ask the driver's management library, which was done in a process of its own."""

    ended: Literal["answered", "refused", "timeout", "crashed", "not-asked"]
    error: str = ""  #: where it refused: NVML_ERROR_DRIVER_NOT_LOADED
    reason: str = ""  #: where it hung, died or was not asked
    library: str = ""  #: the file that was loaded
    version: str = ""  #: of that library, from its name
    driver: str = ""  #: version of the driver, as it says itself
    cuda: str = ""  #: the CUDA version that the libcuda.so.1 which the loader takes is of: "12.4"


class Driver(Section, frozen=True):
    """The NVIDIA driver: kernel module, libraries, device files, and the GPUs it drives."""

    module: str = ""  #: version of the loaded kernel module
    module_source: str = ""
    built: bool | None = None  #: whether the running kernel has such a module to load; None: not looked
    libraries: tuple[DriverLibrary, ...] = ()
    nodes: tuple[DeviceNode, ...] = ()
    pci: tuple[PciGpu, ...] = ()
    asked_for: str = ""  #: what a container was told to have: NVIDIA_VISIBLE_DEVICES, where it names GPUs
    wsl: str = ""  #: the folder of the Windows driver's libraries, where it has a libcuda
    nvml: Nvml = Nvml("not-asked")
    gpus: tuple[Gpu, ...] = ()

    @property
    def library(self) -> DriverLibrary | None:
        """Return the libcuda.so.1 that the loader takes, or None."""
        return next((library for library in self.libraries if library.reached), None)

    @property
    def version(self) -> str:
        """Return the version of the driver at work: the module's, or on WSL what NVML says of it."""
        return self.module or self.nvml.driver

    def signs(self) -> tuple[tuple[str, str], ...]:
        """Return what shows that there is an NVIDIA GPU: each thing seen, and what it says."""
        # One that is set aside for a virtual machine is not there for anybody else.
        pci = (
            (f"/sys/bus/pci/devices/{gpu.address}", "an NVIDIA GPU")
            for gpu in self.pci
            if not gpu.driver.startswith("vfio")
        )
        named = ((node.path, "exists") for node in self.nodes if node.path.startswith("/dev/nvidia"))
        found = [*list(pci)[:2], *list(named)[:1]]
        if self.module_source:
            found.append((self.module_source, f"the kernel module {self.module} is loaded"))
        if self.wsl:
            found.append((self.wsl, "the libraries of the driver in Windows"))
        if self.asked_for:
            found.append(("NVIDIA_VISIBLE_DEVICES", f"NVIDIA_VISIBLE_DEVICES={self.asked_for}"))
        return tuple(found)

    @property
    def is_evident(self) -> bool:
        """Return whether more speaks for a GPU than a variable that every image of NVIDIA's sets to "all"."""
        return self.asked_for not in ("", "all") or len(self.signs()) > bool(self.asked_for)


class DeviceCode(Struct, frozen=True, omit_defaults=True):
    """For which GPUs one library has kernels, read off the library."""

    package: str  #: torch, vllm
    path: str
    sass: tuple[str, ...] = ()  #: machine code, by compute capability: "8.6", "9.0a"
    ptx: tuple[str, ...] = ()  #: what the driver would translate for newer ones: "8.0"
    problem: str = ""


class Kernels(Section, frozen=True):
    """The GPU code of the installed libraries; none is read where there is no GPU."""

    files: tuple[DeviceCode, ...] = ()


class PtxasUse(Struct, frozen=True, omit_defaults=True):
    """The ptxas that the installed Triton runs for GPUs of one compute capability."""

    capability: str
    path: str  #: empty where none can be run
    version: str  #: the CUDA that it is of: "12.8"
    variable: str  #: that would name another: TRITON_PTXAS_BLACKWELL_PATH
    passed_over: str = ""  #: what the variable names, where Triton passes that over without a word
    problem: str = ""  #: why Triton raises instead of running any: "Permission denied"
    compile_path: str = ""  #: the one of torch's own that torch.compile takes instead
    compile_version: str = ""


class Ptxas(Section, frozen=True):
    """Which ptxas Triton runs; looked for only where a GPU is newer than some, or a variable names one."""

    source: str = ""  #: the file of Triton that chooses
    uses: tuple[PtxasUse, ...] = ()
    others: dict[str, str] = {}  #: those of toolkits within reach, and their versions: "13.0.88"
    doubt: str = ""  #: why the choice is not known


class FlashInferPart(Struct, frozen=True, omit_defaults=True):
    """A package that brings FlashInfer's kernels prebuilt, and how the installed FlashInfer takes it."""

    distribution: str  #: flashinfer-cubin or flashinfer-jit-cache
    version: str  #: as its own source says
    source: str
    wanted: str  #: FlashInfer's own version
    wanted_source: str
    suits: bool  #: whether the two agree, by the installed FlashInfer's own rule
    otherwise: str = ""  #: what importing FlashInfer does where they do not: raises, warns, "" nothing
    rule: str = ""  #: the file and line of that rule


class BuiltFor(Struct, frozen=True, omit_defaults=True):
    """What a compiled distribution says of the torch and CUDA that it was built for."""

    distribution: str
    version: str
    source: str
    stated: str  #: as it stands there: "+cu12torch2.8cxx11abiTRUE"
    torch: str = ""  #: "2.8" or "2.9.0"
    cuda: str = ""  #: "12", "12.8", "cpu"
    cxx11_abi: bool | None = None
    requires_torch: str = ""  #: the one version of torch that its metadata allows, where it does
    exact_cuda: bool = False  #: importing it raises where torch is of another CUDA minor


class BitsAndBytes(Struct, frozen=True, omit_defaults=True):
    """The CUDA libraries that the installed bitsandbytes brings, and how it chooses one."""

    version: str
    root: str
    cuda: tuple[str, ...]  #: "12.8", in order
    source: str  #: the file with the rule
    falls_back: bool = False  #: takes another minor of the same CUDA major where the exact one is missing


class UnknownVariable(Struct, frozen=True, omit_defaults=True):
    """A variable called VLLM_* that the installed vLLM does not read."""

    name: str
    near: str = ""  #: the name that it does read and that looks most like it
    typo: bool = False  #: so much like it that nothing else can be meant


class SharedFile(Struct, frozen=True):
    """A library that the wheels of two CUDA majors both claim: the one installed last has overwritten it."""

    path: str
    owners: tuple[str, ...]  #: the distributions whose RECORD names it
    holds: str  #: the one whose file is there, by its size; "" where that cannot be told


class Builds(Section, frozen=True):
    """What the installed artefacts say of what they were built for, read off the artefacts."""

    torch_source: str = ""  #: the line of torch that states its CUDA
    torch_abi: bool | None = None  #: whether torch was built with the new C++ ABI; None: it does not say
    torch_abi_source: str = ""
    flashinfer_parts: tuple[FlashInferPart, ...] = ()
    built_for: tuple[BuiltFor, ...] = ()
    bitsandbytes: BitsAndBytes | None = None
    vllm_envs: str = ""  #: the file of the installed vLLM that names its variables
    vllm_unknown: tuple[UnknownVariable, ...] = ()
    shared_files: tuple[SharedFile, ...] = ()


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


class BuiltOp(Struct, frozen=True, omit_defaults=True):
    """One operator of FlashInfer that is built, and that cannot be used as it is."""

    path: str  #: its folder
    name: str
    cuda_home: str  #: the toolkit that it was built with, as its build.ninja says
    missing: str = ""  #: a library that it needs and that is not found: libcudart.so.12
    gone: bool = False  #: there is no nvcc in `cuda_home` any more, with which it would be built again


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
    built: tuple[BuiltOp, ...] = ()  #: FlashInfer's that are built and cannot be used as they are

    def builds_in(self, folder: str) -> tuple[Lock, ...]:
        """Return the locks below `folder` that a live process holds."""
        inside = f"{folder.rstrip('/')}/"
        return tuple(lock for lock in self.locks if lock.held and lock.path.startswith(inside))


class StoragePlace(Struct, frozen=True, omit_defaults=True):
    """One folder that the installed stack writes to, and what its file system gives."""

    name: str  #: flashinfer, torch-extensions, triton, vllm, torchinductor, tvm-ffi, hf-hub, temporary
    path: str
    variable: str  #: the variable that moves it
    source: str  #: the variable that says where it is now, or "the default"
    nearest: str  #: as much of the path as is there
    blocked: str = ""  #: what cannot be written: the nearest part, or a file or folder in it
    why: Literal["", "refused", "read-only", "file", "dangling", "missing"] = ""
    owner: int = -1  #: the user id that `blocked` belongs to
    device: int = 0  #: tells one file system from another
    free_bytes: int | None = None  #: None: not known
    free_files: int | None = None  #: None: as many as there is space for, or not known
    no_exec: bool = False  #: no library in it can be loaded
    unlocked: str = ""  #: why its file system gives no locks: ENOLCK, ENOSYS, EOPNOTSUPP


class FolderSize(Struct, frozen=True, omit_defaults=True):
    """What the files of a folder hold together."""

    name: str  #: as `CacheFolder` calls it
    path: str
    device: int
    size_bytes: int
    complete: bool = True  #: False: at least so much, for the look was cut off


class Storage(Section, frozen=True):
    """Where the installed stack writes to; sizes are measured only where a file system is nearly full."""

    places: tuple[StoragePlace, ...]
    user: int = -1  #: this user's id, where something is blocked
    spares: tuple[StoragePlace, ...] = ()  #: folders of this user's own that a cache could be moved to
    sizes: tuple[FolderSize, ...] = ()  #: of caches that would be made again
    soft_locks: bool = False  #: the installed filelock does without where flock is not implemented


class Download(Struct, frozen=True, omit_defaults=True):
    """One file of a model that is there in part."""

    path: str
    size_bytes: int
    running: bool = False  #: a live process holds the lock of this download


class CachedModel(Struct, frozen=True, omit_defaults=True):
    """One model of the Hugging Face cache that is not whole."""

    name: str  #: Qwen/Qwen2.5-7B-Instruct
    path: str
    incomplete: tuple[Download, ...] = ()
    broken: tuple[str, ...] = ()  #: links of snapshots whose blob is not there


class Hub(Section, frozen=True):
    """The Hugging Face cache: only what is not whole in it."""

    path: str = ""  #: "" where no huggingface-hub is installed
    source: str = ""  #: the variable that says where, or "the default"
    count: int = 0  #: models, datasets and spaces in it
    offline: str = ""  #: the variable that forbids downloads
    models: tuple[CachedModel, ...] = ()
    complete: bool = True  #: False: there is more than was looked at


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


class DlpackAddon(Struct, frozen=True, omit_defaults=True):
    """tvm-ffi's torch add-on for one kind of device: as a wheel brings it, and as tvm-ffi would build it."""

    device: str  #: cuda, cpu
    cached: str  #: the file that tvm-ffi looks for in its cache
    prebuilt: str = ""  #: the file in torch-c-dlpack-ext; "" where that is not installed or has none
    exists: bool = False  #: whether the cached file is there
    problem: str = ""  #: why the cached file cannot be loaded: "file too short"
    locked: bool = False  #: a live process is building it


class Dlpack(Section, frozen=True, omit_defaults=True):
    """What decides whether FlashInfer can be handed FP8 tensors, read off the installed packages.

    The add-on matters, and is looked for, only where torch does not export FP8 by itself.
    """

    native: bool | None = None  #: torch exports FP8 through dlpack by itself; None: that is not known
    source: str = ""  #: the file of tvm-ffi that loads or builds the add-on; "" where there is none
    build: Literal["", "script", "inline"] = ""  #: by a script of its own, or by torch's extension builder
    switch: bool = False  #: obeys TVM_FFI_DISABLE_TORCH_C_DLPACK
    takes_wheel: bool = False  #: tries torch-c-dlpack-ext first
    wheel: str = ""  #: the folder of the installed torch_c_dlpack_ext
    missing: tuple[str, ...] = ()  #: modules that are not installed: packaging, setuptools
    cache: str = ""  #: the folder of the cached add-ons
    cache_source: str = ""  #: the variable that says where, or "the default"
    writable: bool = True  #: whether an add-on could be put there
    addons: tuple[DlpackAddon, ...] = ()

    def addon(self, device: str) -> DlpackAddon | None:
        """Return the add-on for a kind of device."""
        return next((addon for addon in self.addons if addon.device == device), None)


class Stage(Struct, frozen=True, omit_defaults=True):
    """One step of the child process that takes the stack into use, and how it ended."""

    name: str  #: driver, torch, gpu, dlpack, flashinfer, vllm
    ended: Literal["passed", "failed", "not-reached"]
    message: str = ""  #: what it found, how it failed, or why it was not reached
    seconds: float = 0.0
    stderr: tuple[str, ...] = ()  #: the last lines that it printed before it failed


class LoadedLibrary(Struct, frozen=True, omit_defaults=True):
    """One CUDA library that the child process had loaded."""

    path: str
    distribution: str = ""  #: whose file it is; "" where no distribution of the environment has it
    elsewhere: tuple[str, ...] = ()  #: files of the same name that the environment's distributions have


class Live(Section, frozen=True):
    """What happened when the target's own interpreter took the stack into use."""

    stages: tuple[Stage, ...]
    libraries: tuple[LoadedLibrary, ...] = ()
    fp8: str = ""  #: who took an FP8 tensor across dlpack: torch, add-on, nobody; "": not tried

    def stage(self, name: str) -> Stage | None:
        """Return the stage called `name`."""
        return next((stage for stage in self.stages if stage.name == name), None)


class UndefinedSymbol(Struct, frozen=True, omit_defaults=True):
    """One symbol that is defined nowhere where the loader looks for it."""

    name: str
    version: str = ""  #: the version that is asked for
    library: str = ""  #: the soname of the library that must define it, where the loader says so
    alike: str = ""  #: torch's symbol for the same function, with other parameters or by the other C++ ABI


class Unresolved(Struct, frozen=True, omit_defaults=True):
    """One library with symbols that the loader cannot resolve."""

    path: str  #: as the loader opened it
    extension: str  #: the path of the extension that brings it along, or its own
    symbols: tuple[UndefinedSymbol, ...]  #: in the loader's order, the first ones
    count: int  #: of all of them
    distribution: str = ""  #: whose file it is; "" where no distribution lists it


class Untraced(Struct, frozen=True):
    """One extension that the loader was not asked about, or did not answer for."""

    extension: str
    reason: str


class Symbols(Section, frozen=True):
    """What the real loader said when it was to resolve every symbol of the stack's extensions."""

    unresolved: tuple[Unresolved, ...] = ()
    untraced: tuple[Untraced, ...] = ()
    traced: int = 0  #: extensions that it did answer for


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
    objects: SharedObjects | Unknown = NOT_COLLECTED
    driver: Driver | Unknown = NOT_COLLECTED
    kernels: Kernels | Unknown = NOT_COLLECTED
    ptxas: Ptxas | Unknown = NOT_COLLECTED
    builds: Builds | Unknown = NOT_COLLECTED
    caches: Caches | Unknown = NOT_COLLECTED
    repairs: Repairs | Unknown = NOT_COLLECTED
    dlpack: Dlpack | Unknown = NOT_COLLECTED
    storage: Storage | Unknown = NOT_COLLECTED
    hub: Hub | Unknown = NOT_COLLECTED
    deep: Deep | Unknown = NOT_COLLECTED
    live: Live | Unknown = NOT_COLLECTED
    symbols: Symbols | Unknown = NOT_COLLECTED


SECTIONS: tuple[str, ...] = Facts.__struct_fields__
