"""The driver, its GPUs, and what has code for them."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from cudadoctor.facts.section import Section


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

    @property
    def gpu_nodes(self) -> tuple[DeviceNode, ...]:
        """Return the device files of the kernel module, that of WSL not among them."""
        return tuple(node for node in self.nodes if node.path.startswith("/dev/nvidia"))

    @property
    def closed_nodes(self) -> tuple[DeviceNode, ...]:
        """Return those of them that CUDA needs and this user may not use."""
        return tuple(node for node in self.gpu_nodes if not node.usable and "nvswitch" not in node.path)

    def signs(self) -> tuple[tuple[str, str], ...]:
        """Return what shows that there is an NVIDIA GPU: each thing seen, and what it says."""
        # One that is set aside for a virtual machine is not there for anybody else.
        pci = (
            (f"/sys/bus/pci/devices/{gpu.address}", "an NVIDIA GPU")
            for gpu in self.pci
            if not gpu.driver.startswith("vfio")
        )
        named = ((node.path, "exists") for node in self.gpu_nodes)
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
    compile_version: str = ""  #: that of torch's own ptxas, which torch.compile takes instead


class Ptxas(Section, frozen=True):
    """Which ptxas Triton runs; looked for only where a GPU is newer than some, or a variable names one."""

    source: str = ""  #: the file of Triton that chooses
    uses: tuple[PtxasUse, ...] = ()
    others: dict[str, str] = {}  #: those of toolkits within reach, and their versions: "13.0.88"
    doubt: str = ""  #: why the choice is not known
