"""Asks the NVIDIA driver's management library, in a process of its own: a driver that hangs, aborts, crashes
or prints hurts nobody else.

`python -I -S nvml.py FOLDER...` looks for modules in these folders and prints one JSON object:
{"library": path, "error": [name, text], "driver": "550.54.14", "cuda": 12040, "gpus": [...]}. What could not
be had is left out or null; an error is called as in nvml.h, or by the exception's type.
"""

from __future__ import annotations

import gc
import os
import sys

TYPE_CHECKING = False  # typing's own would bring typing, and every check waits for this process
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

    Asked = tuple[Any, str]  #: what a function returned and "", or None and the name of the error

#: Errors of one question that say that the GPU itself does not work. The others are about the question, the
#: library or the room for the answer, and what is no error of NVML's is a fault of those who asked.
_OF_THE_GPU = frozenset((
    "NVML_ERROR_GPU_IS_LOST", "NVML_ERROR_RESET_REQUIRED", "NVML_ERROR_UNKNOWN", "NVML_ERROR_IRQ_ISSUE",
    "NVML_ERROR_INSUFFICIENT_POWER", "NVML_ERROR_CORRUPTED_INFOROM", "NVML_ERROR_OPERATING_SYSTEM",
))  # fmt: skip
_COMPLETED = 3
_FABRIC = {1: "not-started", 2: "in-progress", _COMPLETED: "completed"}


def main() -> None:
    """Print the answer, and leave without the library's own clean-up, which may hang as well."""
    # Only we know this descriptor: what the library prints goes where errors go.
    channel = os.dup(1)
    os.dup2(2, 1)
    gc.disable()
    sys.path += [folder for folder in sys.argv[1:] if folder not in sys.path]
    import json

    try:
        answer = Library().answer()
    except ImportError as error:
        answer = {"error": ["ImportError", str(error)]}
    with os.fdopen(channel, "w", encoding="ascii") as stream:
        stream.write(json.dumps(answer))
    os._exit(0)


def _pynvml() -> ModuleType:
    """Import pynvml, and not what it imports and never calls: ctypes.util is a third of its time."""
    unused = "ctypes.util"
    stand_in = type(sys)(unused)
    stand_in.find_library = None  # type: ignore[attr-defined]
    sys.modules[unused] = stand_in
    try:
        import pynvml
    except ImportError:
        del sys.modules[unused]
        import pynvml
    return pynvml  # type: ignore[no-any-return]


class Library:
    """The library through pynvml. Raises ImportError where that cannot be had."""

    def __init__(self) -> None:
        self.module = _pynvml()
        named = vars(self.module).items()
        self._names = {value: name for name, value in named if name.startswith("NVML_ERROR_")}

    def answer(self) -> dict[str, Any]:
        """Return everything that there is to be had."""
        try:
            self.module.nvmlInit()
        except Exception as error:
            text = str(error) or type(error).__name__
            return {"error": [self._name(error), text], "library": _loaded()}
        found = {
            "library": _loaded(),
            "driver": self.ask("nvmlSystemGetDriverVersion")[0],
            "cuda": self.ask("nvmlSystemGetCudaDriverVersion_v2")[0],
        }
        count, problem = self.ask("nvmlDeviceGetCount")
        if problem:
            return found | {"error": [problem, "the GPUs could not be counted"]}
        return found | {"gpus": [Device(self, index).answer() for index in range(min(count, 256))]}

    def ask(self, function: str, *arguments: Any, **named: Any) -> Asked:
        """Call one function of pynvml."""
        try:
            value = getattr(self.module, function)(*arguments, **named)
        except Exception as error:
            return None, self._name(error)
        return (value.decode("utf-8", "replace") if isinstance(value, bytes) else value), ""

    def name_of(self, value: int) -> str:
        """Return how nvml.h calls an error."""
        return str(self._names.get(value, f"NVML error {value}"))

    def _name(self, error: BaseException) -> str:
        value = getattr(error, "value", None)
        return self.name_of(value) if isinstance(value, int) else type(error).__name__


class Device:
    """One GPU, and the first error that says that it does not work."""

    def __init__(self, library: Library, index: int) -> None:
        self._library, self._index, self._problem = library, index, ""
        self._handle = self._asked(library.ask("nvmlDeviceGetHandleByIndex", index), every=True)

    def _asked(self, asked: Asked, every: bool = False) -> Any:
        value, error = asked
        says = error.startswith("NVML_ERROR_") if every else error in _OF_THE_GPU
        if says and not self._problem:
            self._problem = error
        return value

    def ask(self, function: str, *arguments: Any, **named: Any) -> Any:
        """Return what a function says of this GPU; None where it says nothing."""
        return self._asked(self._library.ask(function, self._handle, *arguments, **named))

    def answer(self) -> dict[str, Any]:
        """Return everything about this GPU."""
        found: dict[str, Any] = {"index": self._index}
        if self._handle is not None:
            found |= {
                "name": self.ask("nvmlDeviceGetName"),
                "uuid": self.ask("nvmlDeviceGetUUID"),
                "capability": self.ask("nvmlDeviceGetCudaComputeCapability"),
                "memory": self._memory(),
                "processes": self._processes(),
                "fabric": self._fabric(),
                **self._mig(),
            }
        return found | {"problem": self._problem}

    def _memory(self) -> list[int] | None:
        """Return total, used and free bytes; the newer form does not count as used what the driver keeps."""
        version = getattr(self._library.module, "nvmlMemory_v2", None)
        found = self.ask("nvmlDeviceGetMemoryInfo", version=version) if version else None
        found = found or self.ask("nvmlDeviceGetMemoryInfo")
        return [found.total, found.used, found.free] if found else None

    def _processes(self) -> list[list[int | None]]:
        """Return pid and bytes of each process, whatever it uses the GPU for."""
        held: dict[int, int | None] = {}
        for kind in ("Compute", "Graphics"):
            names = (f"nvmlDeviceGet{kind}RunningProcesses{form}" for form in ("_v3", "_v2", ""))
            listed: list[Any] = next((held for held in map(self.ask, names) if held is not None), [])
            for process in listed:
                held[process.pid] = max(held.get(process.pid) or 0, process.usedGpuMemory or 0) or None
        return [[pid, used] for pid, used in list(held.items())[:256]]

    def _mig(self) -> dict[str, Any]:
        mode = self.ask("nvmlDeviceGetMigMode")
        if mode is None:
            return {}
        devices = []
        for index in range(min(self.ask("nvmlDeviceGetMaxMigDeviceCount") or 0, 64) if mode[0] else 0):
            handle = self.ask("nvmlDeviceGetMigDeviceHandleByIndex", index)
            uuid = handle and self._asked(self._library.ask("nvmlDeviceGetUUID", handle))
            devices += [uuid] if uuid else []
        return {"mig": bool(mode[0]), "mig_devices": devices}

    def _fabric(self) -> str:
        """Return how far the GPU has come to join its NVLink fabric; "" for one that belongs to none."""
        from ctypes import byref

        for form in ("V", ""):
            structure = getattr(self._library.module, f"c_nvmlGpuFabricInfo{form}_t", None)
            if structure is None:
                continue
            info = structure()
            _, error = self._library.ask(f"nvmlDeviceGetGpuFabricInfo{form}", self._handle, byref(info))
            if not error:
                failed = info.state == _COMPLETED and info.status
                return (
                    f"failed: {self._library.name_of(info.status)}" if failed else _FABRIC.get(info.state, "")
                )
        return ""


def _loaded() -> str:
    """Return the file of the library, as the kernel has it mapped."""
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            path = line.rstrip("\n").partition("/")[2]
            if "/libnvidia-ml.so" in f"/{path}":
                return f"/{path}".encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return ""


if __name__ == "__main__":
    main()
