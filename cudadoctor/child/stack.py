"""Takes the stack into use, stage by stage, in the interpreter that it is installed for.

Run as a program, with one JSON object as its argument (see `probes/live.py`). It needs Python 3.8 and the
standard library. It forks: the worker imports the stack, and the guardian, which imports nothing, watches it,
says how it ended, and at the end kills their process group with all that the stack has started.

What the stack prints to stderr stays there, to stdout goes nowhere: megabytes of it harm nothing. What became
of each stage goes to the guardian by a pipe, and from there to stdout, in records
`<token><length as 8 hex digits><JSON>`. Where the stack closes that pipe, they go to stderr: the token, which
nobody would print by chance, tells them from everything else there.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and sys.path and sys.path[0] == __file__.rpartition("/")[0]:
    del sys.path[0]  # a module of the stack must not be looked for beside this file

import faulthandler
import fcntl
import json
import os
import re
import select
import signal
import time
from collections.abc import Callable
from importlib import import_module, util
from typing import Any

_HIGH = 200  #: file descriptors that nobody counts up to
_MESSAGE = 600
#: Libraries of CUDA's toolkit and of those NVIDIA ships beside it.
_CUDA_LIBRARY = re.compile(
    r"/lib(?:cuda|cudart|cublas\w*|cudnn\w*|cufft\w*|cufile\w*|cupti|curand|cusolver\w*|cusparse\w*|nccl"
    r"|nvfatbin|nvJitLink|nvrtc[\w-]*|nvshmem\w*|nvToolsExt|nvptxcompiler|nvvm)(?:-[0-9a-f]{8})?\.so[.\d]*$"
)


class NotReached(Exception):
    """The stage does not apply here; the text says why."""


class Channel:
    """The worker's way back to the guardian; what others print to stdout goes nowhere."""

    def __init__(self, token: str, pipe: int) -> None:
        self._token, self.owner = token.encode(), os.getpid()
        try:
            self._pipe = fcntl.fcntl(pipe, fcntl.F_DUPFD_CLOEXEC, _HIGH)
        except OSError:
            self._pipe = fcntl.fcntl(pipe, fcntl.F_DUPFD_CLOEXEC, 3)
        os.close(pipe)
        self._identity = _identity(self._pipe)
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.close(nothing)

    def tell(self, **record: Any) -> None:
        """Send one record. A process that was forked off, and came back from an import, ends here."""
        if os.getpid() != self.owner:
            os._exit(0)
        # A number that was closed may by now be somebody's file.
        lost = self._identity is None or _identity(self._pipe) != self._identity
        _send(2 if lost else self._pipe, self._token, record)

    def mark(self, stage: str, limit_s: float) -> None:
        """Say that a stage begins, and how long it may take; on stderr too: what comes behind is its own."""
        self.tell(begin=stage, limit_s=limit_s)
        _send(2, self._token, {"begin": stage})


def _send(fd: int, token: bytes, record: dict[str, Any]) -> None:
    text = json.dumps(record).encode()
    data = token + b"%08x" % len(text) + text
    try:
        while data:
            data = data[os.write(fd, data) :]
    except OSError:
        pass  # nobody listens any more


def _identity(fd: int) -> tuple[int, int] | None:
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino


class Patient:
    """What the stages share."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self.gpus = 0
        self.no_gpu = "no GPU"
        self.torch: Any = None
        self.fp8 = ""


def driver(patient: Patient) -> str:
    """Start the driver, as CUDA's runtime does."""
    import ctypes

    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise NotReached(f"no libcuda.so.1 can be loaded: {error}") from None
    status = cuda.cuInit(0)
    if status == 100:  # CUDA_ERROR_NO_DEVICE
        raise NotReached("no GPU: cuInit says CUDA_ERROR_NO_DEVICE (100)")
    if status:
        patient.no_gpu = "the driver does not start"
        name = ctypes.c_char_p()
        cuda.cuGetErrorName(status, ctypes.byref(name))
        raise RuntimeError(f"cuInit says {(name.value or b'error').decode()} ({status})")
    version, count = ctypes.c_int(), ctypes.c_int()
    cuda.cuDriverGetVersion(ctypes.byref(version))
    cuda.cuDeviceGetCount(ctypes.byref(count))
    patient.gpus = count.value
    if not count.value:
        raise NotReached("no GPU: the driver counts none")
    return f"CUDA {version.value // 1000}.{version.value % 1000 // 10}, {count.value} GPU(s)"


def torch(patient: Patient) -> str:
    """Import torch."""
    found = import_module("torch")
    if getattr(found, "__file__", None) is None:
        raise ImportError(f"torch is a folder without code: {next(iter(found.__path__))}")
    patient.torch = found
    return _version(found)


def gpu(patient: Patient) -> str:
    """Allocate on the first GPU, run a kernel there and fetch what it computed."""
    module = _torch(patient)
    if not getattr(getattr(module, "version", None), "cuda", None):
        raise NotReached("torch is not built for CUDA")
    if not patient.gpus:
        raise NotReached(patient.no_gpu)
    module.cuda.init()
    count = module.cuda.device_count()
    if not count:
        raise RuntimeError(f"torch counts no GPU, the driver {patient.gpus}")
    values = module.arange(1024, device="cuda:0", dtype=module.float32)
    total = float((values * 2 + 1).sum().item())  # waits for the kernels, so that theirs are our errors
    if total != 1024.0 * 1024.0:
        raise RuntimeError(f"a kernel computed {total:g}, not {1024 * 1024}")
    return str(module.cuda.get_device_name(0))


def dlpack(patient: Patient) -> str:
    """Hand tensors over through dlpack, on the CPU, the way that FlashInfer does: by tvm-ffi."""
    module = _torch(patient)
    plain = module.zeros(2)
    if module.from_dlpack(plain).dtype != plain.dtype:
        raise RuntimeError("a float32 tensor came back as another type")
    if not hasattr(module, "float8_e4m3fn"):
        return "this torch has no FP8"
    fp8 = module.zeros(2, dtype=module.uint8).view(module.float8_e4m3fn)
    problem = _raised(fp8.__dlpack__)
    patient.fp8 = "nobody" if problem else "torch"
    if not patient.plan["through_tvm_ffi"]:
        return f"{problem}; nothing here needs it" if problem else "FP8 too"
    tvm_ffi = import_module("tvm_ffi")
    echo = tvm_ffi.convert(lambda tensor: str(tensor.dtype))
    if echo(plain) != "float32":
        raise RuntimeError(f"tvm-ffi takes a float32 tensor for {echo(plain)}")
    got = echo(fp8)
    if got != "float8_e4m3fn":
        raise RuntimeError(f"tvm-ffi takes a float8_e4m3fn tensor for {got}")
    patient.fp8 = "torch" if not problem else "add-on"
    return "FP8 too" + (", by tvm-ffi's add-on" if problem else "")


def flashinfer(patient: Patient) -> str:
    """Import FlashInfer."""
    return _version(import_module("flashinfer"))


def vllm(patient: Patient) -> str:
    """Import vLLM and what a launch begins with, and where there is a GPU its extension too.

    vLLM by itself imports next to nothing: what it requires, transformers among it, comes with LLM.
    """
    module = import_module("vllm")
    try:
        getattr(module, "LLM", None)
    except Exception as error:
        # Without a GPU it may stop at what only a GPU machine has: that is nobody's failure.
        if not patient.gpus and (not isinstance(error, ImportError) or "libcuda.so" in str(error)):
            raise NotReached(f"{_version(module)}; no GPU, and LLM asks for one: {_said(error)}") from None
        raise
    if patient.gpus:
        for name in ("vllm._C", "vllm._C_stable_libtorch"):
            if util.find_spec(name) is not None:
                import_module(name)
    return _version(module)


STAGES: dict[str, Callable[[Patient], str]] = {
    "driver": driver,
    "torch": torch,
    "gpu": gpu,
    "dlpack": dlpack,
    "flashinfer": flashinfer,
    "vllm": vllm,
}


def _version(module: Any) -> str:
    return str(getattr(module, "__version__", "of unknown version"))


def _torch(patient: Patient) -> Any:
    if patient.torch is None:
        raise NotReached("torch cannot be imported")
    return patient.torch


def _raised(function: Callable[[], object]) -> str:
    try:
        function()
    except Exception as error:
        return _said(error)
    return ""


def _said(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:_MESSAGE] if text else type(error).__name__


def _loaded() -> list[str]:
    """Return the CUDA libraries in this process."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
            paths = {line.split(None, 5)[5].rstrip("\n") for line in maps if "/" in line}
    except OSError:
        return []
    return sorted(path for path in paths if _CUDA_LIBRARY.search(path))


def run(channel: Channel, patient: Patient) -> None:
    """Go through the stages."""
    for name, limit_s in patient.plan["stages"].items():
        channel.mark(name, limit_s)
        started = time.monotonic()
        try:
            ended, message = "passed", STAGES[name](patient)
        except NotReached as reason:
            ended, message = "not-reached", str(reason)
        except BaseException as error:
            # SystemExit and KeyboardInterrupt, too: whatever a package raises on import is its failure.
            if os.getpid() == channel.owner:
                _print_traceback(error)
            ended, message = "failed", _said(error)
        seconds = round(time.monotonic() - started, 2)
        channel.tell(end=name, ended=ended, message=message[:_MESSAGE], seconds=seconds, fp8=patient.fp8)
        if name in ("torch", "gpu", "vllm") and ended != "not-reached":
            channel.tell(loaded=_loaded())


def _print_traceback(error: BaseException) -> None:
    import traceback

    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next  # our own calls are nobody's hint
    try:
        text = "".join(traceback.format_exception(type(error), error, trace))
        os.write(2, text.encode("utf-8", "replace"))
    except OSError:
        pass


def _see_cached_addons(plan: dict[str, Any]) -> None:
    """Let tvm-ffi find the add-ons that it has cached, in a folder where it may write."""
    try:
        os.makedirs(plan["cache"], exist_ok=True)
        for name in os.listdir(plan["cached"]):
            if name.startswith("libtorch_c_dlpack_addon") and name.endswith(".so"):
                os.symlink(os.path.join(plan["cached"], name), os.path.join(plan["cache"], name))
    except OSError:
        pass  # without a cache it has cached nothing


def work(plan: dict[str, Any], pipe: int) -> None:
    """Be the worker; does not return."""
    try:
        channel = Channel(plan["token"], pipe)
        faulthandler.enable(file=2)
        faulthandler.register(signal.SIGUSR1, file=2, all_threads=False)
        if plan["cache"]:
            _see_cached_addons(plan)
        run(channel, Patient(plan))
        channel.tell(done=True)
    finally:
        # No tidy end: what a library does then is nobody's question here, and it may hang or crash.
        os._exit(0)


def guard(worker: int, pipe: int, plan: dict[str, Any]) -> dict[str, Any]:
    """Hand the worker's records on until it has ended or one stage takes too long; return which it was."""
    limit_s = max(plan["stages"].values())
    deadline, ended, is_open = time.monotonic() + limit_s, None, True
    while True:
        if ended is None:
            pid, status = os.waitpid(worker, os.WNOHANG)
            ended = status if pid else None
        if select.select([pipe] if is_open else [], [], [], 0 if ended is not None else _LOOK_S)[0]:
            data = os.read(pipe, 1 << 16)
            is_open = bool(data)
            os.write(1, data)
            limits = _LIMIT.findall(data)
            limit_s = float(limits[-1]) if limits else limit_s
            deadline = time.monotonic() + limit_s
        elif ended is not None:
            return {"died": -os.WTERMSIG(ended) if os.WIFSIGNALED(ended) else os.WEXITSTATUS(ended)}
        elif time.monotonic() > deadline:
            os.kill(worker, signal.SIGUSR1)  # it says on stderr where it is
            time.sleep(_SAY_S)
            return {"late": limit_s}


_LIMIT = re.compile(rb'"limit_s": ([0-9.]+)')
_LOOK_S = 0.05
_SAY_S = 0.3


def main() -> None:
    """Run the stages that the argument names."""
    plan = json.loads(sys.argv.pop(1))
    theirs, ours = os.pipe()
    worker = os.fork()
    if worker == 0:
        os.close(theirs)
        work(plan, ours)
    os.close(ours)
    try:
        _send(1, plan["token"].encode(), guard(worker, theirs, plan))
    finally:
        if os.getpgrp() == os.getpid():
            os.killpg(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
