"""What was seen: frozen sections, one a probe, that a check can judge without touching the machine.

Every path is a string as the machine gave it, never normalised: `/x/link/../lib` and `/x/lib` can be two
folders. Strings compare equal exactly when the probe saw the same spelling.
"""

from __future__ import annotations

from msgspec import Struct

from cudadoctor.facts.builds import (
    BitsAndBytes,
    Builds,
    BuiltFor,
    Dlpack,
    DlpackAddon,
    FlashInferPart,
    SharedFile,
    UnknownVariable,
)
from cudadoctor.facts.caches import (
    BuiltOp,
    CachedModel,
    CacheFolder,
    Caches,
    ConfiguredOp,
    Download,
    FolderSize,
    Hub,
    Lock,
    OpenRun,
    Repairs,
    Storage,
    StoragePlace,
)
from cudadoctor.facts.environment import (
    Conda,
    CondaRecord,
    Distribution,
    Environ,
    FlashInfer,
    Machine,
    Packages,
    Target,
    TorchBuild,
    Triton,
    Variable,
)
from cudadoctor.facts.gpu import (
    DeviceCode,
    DeviceNode,
    Driver,
    DriverLibrary,
    Gpu,
    GpuProcess,
    Kernels,
    Nvml,
    PciGpu,
    Ptxas,
    PtxasUse,
)
from cudadoctor.facts.launch import Card, Container, Given, Held, Launch, Mount, Note, Paths, Port, Refused
from cudadoctor.facts.libraries import (
    CachedLibrary,
    DynamicLoader,
    Extension,
    Libraries,
    LibraryFile,
    LibraryKind,
    LinkDirectory,
    SharedObject,
    SharedObjects,
    VersionNeed,
)
from cudadoctor.facts.model import (
    Architecture,
    Flaw,
    HubAnswer,
    Methods,
    Model,
    Quantization,
    Room,
    Token,
    Weights,
)
from cudadoctor.facts.resources import Listener, Resources, SharedMemory, WantedPort
from cudadoctor.facts.section import (
    Section,
    Unknown,
)
from cudadoctor.facts.toolchain import (
    BuildTool,
    BuildTools,
    Compiler,
    Compilers,
    CompilerUse,
    HeaderDirectory,
    LinkSearch,
    NvccOnPath,
    Selection,
    Toolkit,
    Toolkits,
)
from cudadoctor.facts.trials import (
    Deep,
    Live,
    LoadedLibrary,
    Stage,
    Symbols,
    Trial,
    UndefinedSymbol,
    Unresolved,
    Untraced,
)

__all__ = [
    "NOT_COLLECTED",
    "SECTIONS",
    "Architecture",
    "BitsAndBytes",
    "BuildTool",
    "BuildTools",
    "Builds",
    "BuiltFor",
    "BuiltOp",
    "CacheFolder",
    "CachedLibrary",
    "CachedModel",
    "Caches",
    "Card",
    "Compiler",
    "CompilerUse",
    "Compilers",
    "Conda",
    "CondaRecord",
    "ConfiguredOp",
    "Container",
    "Deep",
    "DeviceCode",
    "DeviceNode",
    "Distribution",
    "Dlpack",
    "DlpackAddon",
    "Download",
    "Driver",
    "DriverLibrary",
    "DynamicLoader",
    "Environ",
    "Extension",
    "Facts",
    "FlashInfer",
    "FlashInferPart",
    "Flaw",
    "FolderSize",
    "Given",
    "Gpu",
    "GpuProcess",
    "HeaderDirectory",
    "Held",
    "Hub",
    "HubAnswer",
    "Kernels",
    "Launch",
    "Libraries",
    "LibraryFile",
    "LibraryKind",
    "LinkDirectory",
    "LinkSearch",
    "Listener",
    "Live",
    "LoadedLibrary",
    "Lock",
    "Machine",
    "Methods",
    "Model",
    "Mount",
    "Note",
    "NvccOnPath",
    "Nvml",
    "OpenRun",
    "Packages",
    "Paths",
    "PciGpu",
    "Port",
    "Ptxas",
    "PtxasUse",
    "Quantization",
    "Refused",
    "Repairs",
    "Resources",
    "Room",
    "Section",
    "Selection",
    "SharedFile",
    "SharedMemory",
    "SharedObject",
    "SharedObjects",
    "Stage",
    "Storage",
    "StoragePlace",
    "Symbols",
    "Target",
    "Token",
    "Toolkit",
    "Toolkits",
    "TorchBuild",
    "Trial",
    "Triton",
    "UndefinedSymbol",
    "Unknown",
    "UnknownVariable",
    "Unresolved",
    "Untraced",
    "Variable",
    "VersionNeed",
    "WantedPort",
    "Weights",
]  # fmt: skip

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
    launch: Launch | Unknown = NOT_COLLECTED
    card: Card | Unknown = NOT_COLLECTED
    model: Model | Unknown = NOT_COLLECTED
    resources: Resources | Unknown = NOT_COLLECTED
    paths: Paths | Unknown = NOT_COLLECTED


SECTIONS: tuple[str, ...] = Facts.__struct_fields__
