"""The stages of --deep, with packages that do on import what broken builds do."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import time
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cudadoctor.facts import Dlpack, Live, LoadedLibrary, Stage
from cudadoctor.host import Ran, RealHost
from cudadoctor.probes import environ as environ_probe
from cudadoctor.probes import live
from cudadoctor.probes import packages as packages_probe
from cudadoctor.probes import target as target_probe
from cudadoctor.probes.target import Request
from tests.real.conftest import _do_without
from tests.real.test_deep import alive

Import = Callable[..., Live]

#: As much of torch as the stages ask for.
TORCH = """
__version__ = "2.9.0+cu128"
class version: cuda = "12.8"
float32 = "float32"
class Tensor: dtype = float32
def zeros(count, dtype=float32): return Tensor()
def from_dlpack(tensor): return tensor
"""
VLLM = "import torch\n__version__ = '0.12.0'\n"
#: As much of the driver's library as is asked, which counts one GPU.
LIBCUDA = """
int cuInit(unsigned flags) { return STATUS; }
int cuDriverGetVersion(int *version) { *version = 12080; return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuGetErrorName(int status, const char **name) { *name = "CUDA_ERROR_UNKNOWN"; return 0; }
"""
#: And as much of torch on a GPU.
ON_GPU = """
class Values:
    def __mul__(self, other): return self
    __add__ = __mul__
    def sum(self): return self
    def item(self): return 1048576
def arange(count, device, dtype):
    assert (count, device, dtype) == (1024, "cuda:0", float32)
    return Values()
class cuda:
    init = staticmethod(lambda: None)
    device_count = staticmethod(lambda: 1)
    get_device_name = staticmethod(lambda index: f"GPU {index}")
"""
LEAVES_A_CHILD = """
import subprocess
child = subprocess.Popen(["sleep", "300"])
with open("{}", "w") as file:
    file.write(str(child.pid))
"""


@pytest.fixture
def imported(tmp_path: Path) -> Iterator[Import]:
    """Return `imported(torch=..., stage_s=...)`, which imports these modules in an environment of theirs."""
    prefix = tmp_path / "env"
    venv.create(prefix, symlinks=True, with_pip=False)
    place = tmp_path / "tmp"
    place.mkdir()

    def run(stage_s: float = 20, total_s: float = 60, driver: Path | None = None, **modules: str) -> Live:
        variables = {**os.environ, "TMPDIR": str(place), "HOME": str(tmp_path / "home")}
        variables |= {"LD_LIBRARY_PATH": str(driver)} if driver else {}
        host = RealHost(variables)
        target = target_probe.probe(host, Request(prefix=str(prefix)))
        for name, code in modules.items():
            plant(Path(target.site_packages[0]), name, code)
        environ = environ_probe.probe(host, target)
        packages = packages_probe.probe(host, target)
        return live.probe(host, target, environ, packages, Dlpack(), stage_s=stage_s, total_s=total_s)

    yield run
    assert not list(place.iterdir()), "the temporary folder is gone"
    assert not (tmp_path / "home").exists(), "nothing was written to the home folder"


def plant(site: Path, name: str, code: str) -> None:
    distribution = {"flashinfer": "flashinfer_python", "tvm_ffi": "apache_tvm_ffi"}.get(name, name)
    (site / name).mkdir()
    (site / name / "__init__.py").write_text(code)
    info = site / f"{distribution}-0.5.3.dist-info"
    info.mkdir()
    text = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 0.5.3\n\n"
    (info / "METADATA").write_text(text)


@pytest.fixture
def driver(tmp_path: Path) -> Callable[..., Path]:
    """Return `driver(status=0)`, which makes a folder with a driver's library that starts so."""
    gcc = shutil.which("gcc")
    if gcc is None:
        _do_without("gcc is not on PATH")

    def make(status: int = 0) -> Path:
        folder = tmp_path / "driver"
        folder.mkdir()
        shared = [
            gcc,
            f"-DSTATUS={status}",
            "-shared",
            "-fPIC",
            "-x",
            "c",
            "-",
            "-o",
            f"{folder}/libcuda.so.1",
        ]
        subprocess.run(shared, input=LIBCUDA, text=True, check=True)
        return folder

    return make


def stage(found: Live, name: str) -> Stage:
    each = found.stage(name)
    assert each is not None
    return each


def ended(found: Live) -> dict[str, str]:
    return {each.name: each.ended for each in found.stages}


def died(found: Live) -> Stage:
    """Return the stage of torch, at which the process died: nothing after it was reached."""
    assert ended(found) == {
        "driver": "not-reached", "torch": "failed", "gpu": "not-reached", "dlpack": "not-reached",
        "flashinfer": "not-reached", "vllm": "not-reached",
    }  # fmt: skip
    assert stage(found, "vllm").message == "the process had ended before it, at torch"
    assert stage(found, "flashinfer").message == "flashinfer-python is not installed"
    return stage(found, "torch")


def is_gone(file: Path) -> bool:
    """Return whether the process whose number is in this file ends within moments."""
    patience = time.monotonic() + 5
    while alive(file.read_text()) and time.monotonic() < patience:
        time.sleep(0.02)
    return not alive(file.read_text())


def test_the_stages_pass_in_their_order(imported: Import) -> None:
    found = imported(torch=TORCH, vllm=VLLM)
    assert [each.name for each in found.stages] == ["driver", "torch", "gpu", "dlpack", "flashinfer", "vllm"]
    assert stage(found, "torch") == Stage("torch", "passed", "2.9.0+cu128", stage(found, "torch").seconds)
    assert stage(found, "dlpack").message == "this torch has no FP8"
    assert stage(found, "vllm").message == "0.12.0" and stage(found, "vllm").ended == "passed"


def test_without_a_gpu_its_stage_is_not_reached(imported: Import) -> None:
    found = imported(torch=TORCH)
    if stage(found, "driver").ended != "not-reached":
        pytest.skip("this machine has a GPU")
    assert stage(found, "driver").message.startswith("no ")
    assert stage(found, "gpu") == Stage("gpu", "not-reached", "no GPU", stage(found, "gpu").seconds)


def test_a_gpu_is_allocated_on_and_computes(imported: Import, driver: Callable[..., Path]) -> None:
    found = imported(torch=TORCH + ON_GPU, driver=driver())
    assert stage(found, "driver").message == "CUDA 12.8, 1 GPU(s)"
    assert stage(found, "gpu") == Stage("gpu", "passed", "GPU 0", stage(found, "gpu").seconds)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (
            "cuda.init = staticmethod(lambda: exec('raise RuntimeError(\"too old\")'))",
            "RuntimeError: too old",
        ),
        ("cuda.device_count = staticmethod(lambda: 0)", "RuntimeError: torch counts no GPU, the driver 1"),
        ("Values.item = lambda self: 7", "RuntimeError: a kernel computed 7, not 1048576"),
        ("del cuda", "AttributeError: module 'torch' has no attribute 'cuda'"),
    ],
)
def test_a_gpu_that_does_not_do_it_fails_its_stage_alone(
    imported: Import, driver: Callable[..., Path], code: str, says: str
) -> None:
    found = imported(torch=f"{TORCH}{ON_GPU}{code}\n", vllm=VLLM, driver=driver())
    assert (stage(found, "gpu").ended, stage(found, "gpu").message) == ("failed", says)
    assert stage(found, "dlpack").ended == stage(found, "vllm").ended == "passed"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import os; os.abort()", "the process died of SIGABRT"),
        ("import time; time.sleep(300)", "did not end within 1 s"),
    ],
)
def test_a_kernel_that_kills_or_hangs_is_the_stage_of_the_gpu(
    imported: Import, driver: Callable[..., Path], code: str, says: str
) -> None:
    kernel = f"def item(self):\n  {code}\nValues.item = item\n"
    found = imported(torch=TORCH + ON_GPU + kernel, driver=driver(), stage_s=1 if "sleep" in code else 20)
    assert ended(found)["torch"] == "passed" and ended(found)["dlpack"] == "not-reached"
    assert (stage(found, "gpu").ended, stage(found, "gpu").message) == ("failed", says)
    assert any("in item" in line for line in stage(found, "gpu").stderr)


def test_a_driver_that_does_not_start_keeps_the_gpu_out_of_reach(
    imported: Import, driver: Callable[..., Path]
) -> None:
    found = imported(torch=TORCH + ON_GPU, driver=driver(999))
    assert stage(found, "driver").message == "RuntimeError: cuInit says CUDA_ERROR_UNKNOWN (999)"
    assert stage(found, "gpu").message == "the driver does not start"


def test_the_libraries_that_are_loaded_are_told_from_those_that_lie_about(
    imported: Import, driver: Callable[..., Path], tmp_path: Path
) -> None:
    system, files = tmp_path / "system", ("libcudart.so.12", "libcublas.so.12", "libother.so.1")
    system.mkdir()
    shutil.copy(driver() / "libcuda.so.1", system / "libcublas.so.12.6.4")
    (system / "libcublas.so.12").symlink_to("libcublas.so.12.6.4")
    (site,) = tmp_path.glob("env/lib/python3.*/site-packages")
    for file in files:
        own = site / f"nvidia/lib/{file}"
        own.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tmp_path / "driver/libcuda.so.1", own)
    plant(site, "nvidia_cublas_cu12", "")
    record = "".join(f"nvidia/lib/{file},sha256=x,1\n" for file in files)
    (site / "nvidia_cublas_cu12-0.5.3.dist-info/RECORD").write_text(record)
    loads = [
        site / "nvidia/lib/libcudart.so.12",
        site / "nvidia/lib/libother.so.1",
        system / "libcublas.so.12",
    ]
    code = f"import ctypes\nfor path in {list(map(str, loads))!r}: ctypes.CDLL(path)\n"
    found = imported(torch=f"{code}raise ImportError('too late')", driver=tmp_path / "driver")
    assert found.libraries == (
        LoadedLibrary(str(tmp_path / "driver/libcuda.so.1")),
        LoadedLibrary(str(site / "nvidia/lib/libcudart.so.12"), "nvidia-cublas-cu12"),
        LoadedLibrary(f"{system}/libcublas.so.12.6.4", "", (f"{site}/nvidia/lib/libcublas.so.12",)),
    )


LAZY = "__version__ = '0.12.0'\ndef __getattr__(name):\n  {}\n"


@pytest.mark.parametrize(
    ("code", "on_gpu", "says"),
    [
        (
            "raise ImportError('tokenizers<0.20 is required')",
            False,
            "ImportError: tokenizers<0.20 is required",
        ),
        ("raise ImportError('libcuda.so.1: cannot open')", True, "ImportError: libcuda.so.1: cannot open"),
        (
            "raise RuntimeError('Failed to infer device type')",
            True,
            "RuntimeError: Failed to infer device type",
        ),
    ],
)
def test_what_vllm_imports_late_counts(
    imported: Import, driver: Callable[..., Path], code: str, on_gpu: bool, says: str
) -> None:
    found = imported(torch=TORCH + ON_GPU, vllm=LAZY.format(code), driver=driver() if on_gpu else None)
    assert (stage(found, "vllm").ended, stage(found, "vllm").message) == ("failed", says)


@pytest.mark.parametrize(
    "code", ["raise ImportError('libcuda.so.1: cannot open')", "raise RuntimeError('Failed to infer device')"]
)
def test_what_vllm_cannot_have_without_a_gpu_is_no_failure(imported: Import, code: str) -> None:
    found = imported(torch=TORCH, vllm=LAZY.format(code))
    if stage(found, "driver").ended == "passed":
        pytest.skip("this machine has a GPU")
    assert stage(found, "vllm").ended == "not-reached"
    assert stage(found, "vllm").message.startswith("0.12.0; no GPU, and LLM asks for one: ")


def test_a_torch_that_was_half_removed_is_no_torch(imported: Import, tmp_path: Path) -> None:
    (site,) = tmp_path.glob("env/lib/python3.*/site-packages")
    plant(site, "torch", "")
    (site / "torch/__init__.py").unlink()
    found = imported(vllm=VLLM)
    assert stage(found, "torch").message == f"ImportError: torch is a folder without code: {site}/torch"


def test_an_import_error_stops_what_builds_on_it_alone(imported: Import) -> None:
    found = imported(torch=TORCH, flashinfer="import torch, nothing_such", vllm=VLLM)
    failed = stage(found, "flashinfer")
    assert (failed.ended, failed.message) == (
        "failed", "ModuleNotFoundError: No module named 'nothing_such'"
    )  # fmt: skip
    assert failed.stderr[-1] == failed.message and stage(found, "vllm").ended == "passed"
    assert not any("stack.py" in line for line in failed.stderr)


def test_a_torch_that_raises_fails_every_stage_that_needs_it(imported: Import) -> None:
    found = imported(torch="raise OSError('libcudart.so.12: cannot open shared object file')", vllm=VLLM)
    assert stage(found, "torch").message == "OSError: libcudart.so.12: cannot open shared object file"
    assert ended(found)["gpu"] == ended(found)["dlpack"] == "not-reached"
    assert stage(found, "vllm").ended == "failed"


@pytest.mark.parametrize("code", ["import sys; sys.exit(3)", "raise KeyboardInterrupt", "exec('def')"])
def test_whatever_is_raised_is_a_failure(imported: Import, code: str) -> None:
    found = imported(torch=code)
    assert stage(found, "torch").ended == "failed"
    assert stage(found, "torch").message.startswith(("SystemExit: 3", "KeyboardInterrupt", "SyntaxError"))


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import os; os.abort()", "the process died of SIGABRT"),
        ("import ctypes; ctypes.string_at(0)", "the process died of SIGSEGV"),
        ("import os; os.kill(os.getpid(), 9)", "the process died of SIGKILL"),
        ("import os; os._exit(0)", "the process ended itself, with status 0"),
        ("import os; os._exit(7)", "the process ended itself, with status 7"),
    ],
)
def test_a_process_that_dies_names_the_stage_and_the_last_words(
    imported: Import, code: str, says: str
) -> None:
    torch = died(
        imported(torch=f"import sys; print('last words', file=sys.stderr, flush=True)\n{code}", vllm=VLLM)
    )
    assert torch.message == says
    assert torch.stderr[0] == "last words"


def test_a_crash_shows_where_it_was(imported: Import) -> None:
    torch = died(imported(torch="def here():\n  import os; os.abort()\nhere()", vllm=VLLM))
    assert any("torch/__init__.py" in line and "in here" in line for line in torch.stderr)


def test_a_hang_is_ended_with_its_children_and_shows_where_it_was(imported: Import, tmp_path: Path) -> None:
    code = LEAVES_A_CHILD.format(tmp_path / "pid")
    code += "import time\ndef forever():\n  time.sleep(300)\nforever()\n"
    started = time.monotonic()
    torch = died(imported(torch=code, vllm=VLLM, stage_s=1))
    assert time.monotonic() - started < 15
    assert torch.message == "did not end within 1 s"
    assert any("in forever" in line for line in torch.stderr)
    assert is_gone(tmp_path / "pid")


def test_a_hang_that_holds_everything_is_ended(imported: Import) -> None:
    code = "import ctypes, signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\n"
    torch = died(imported(torch=f"{code}ctypes.PyDLL(None).pause()", vllm=VLLM, stage_s=1))
    assert torch.message == "did not end within 1 s"


def test_the_whole_has_a_limit_too(imported: Import) -> None:
    torch = died(imported(torch="import time; time.sleep(300)", vllm=VLLM, stage_s=100, total_s=1.5))
    assert torch.message == "did not end within 1.5 s"


def test_a_megabyte_of_output_harms_nothing(imported: Import) -> None:
    flood = "import sys, os\nfor _ in range(256):\n  print('x' * 2048); os.write(1, b'y' * 2048)\n"
    found = imported(torch=flood + TORCH, vllm=VLLM)
    assert stage(found, "torch").ended == stage(found, "vllm").ended == "passed"


def test_eight_megabytes_on_stdout_harm_nothing(imported: Import) -> None:
    found = imported(torch="for _ in range(8): print('x' * (1 << 20))\n" + TORCH, vllm=VLLM)
    assert stage(found, "torch").ended == stage(found, "vllm").ended == "passed"


def test_output_without_end_is_ended(imported: Import) -> None:
    torch = died(imported(torch="while True: print('x' * 4096)", vllm=VLLM, stage_s=1))
    assert torch.message == "did not end within 1 s"


def test_a_flood_on_stderr_hides_how_it_went(imported: Import) -> None:
    flood = "import sys\nwhile True: print('x' * 4096, file=sys.stderr)"
    torch = stage(imported(torch=flood, vllm=VLLM), "torch")
    assert torch.ended == "not-reached"
    assert torch.message == "printed more than 4 MiB to stderr, and was ended for it"


def test_what_looks_like_a_record_is_none(imported: Import) -> None:
    lies = 'print(\'<00000000000000000000000000000000>0000000f{"end": "torch"}\', flush=True)\n'
    found = imported(torch=f"{lies}raise ImportError('truth')")
    assert stage(found, "torch").message == "ImportError: truth"


@pytest.mark.parametrize("reused", [False, True])
def test_a_stack_that_closes_every_file_still_tells(imported: Import, tmp_path: Path, reused: bool) -> None:
    code = "import os; os.closerange(3, 4096)\n"
    if reused:
        code += f"files = [open({str(tmp_path / 'theirs')!r}, 'w') for _ in range(300)]\n"
    found = imported(torch=code + TORCH, vllm=VLLM)
    assert stage(found, "torch").ended == stage(found, "vllm").ended == "passed"
    assert not reused or (tmp_path / "theirs").read_text() == ""


def test_a_process_forked_on_import_tells_nothing(imported: Import) -> None:
    code = "import os\nif os.fork() == 0:\n  raise ImportError('of the child')\n"
    found = imported(torch=code + TORCH, vllm=VLLM)
    assert stage(found, "torch").ended == stage(found, "vllm").ended == "passed"


def test_a_child_left_behind_is_ended(imported: Import, tmp_path: Path) -> None:
    code = LEAVES_A_CHILD.format(tmp_path / "pid")
    started = time.monotonic()
    assert stage(imported(torch=code + TORCH), "torch").ended == "passed"
    assert time.monotonic() - started < 15
    assert is_gone(tmp_path / "pid")


def test_caches_lie_in_a_folder_that_goes(imported: Import, tmp_path: Path) -> None:
    names = [
        "TVM_FFI_CACHE_DIR", "FLASHINFER_WORKSPACE_BASE", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR",
        "VLLM_CACHE_ROOT", "HF_HOME", "XDG_CACHE_HOME", "TMPDIR",
    ]  # fmt: skip
    code = f"""
import os, sys
assert sys.dont_write_bytecode and os.environ["HF_HUB_OFFLINE"] == "1"
for name in {names[1:]!r}:
    assert os.environ[name].startswith({str(tmp_path / "tmp" / "cudadoctor-")!r}), name
    os.makedirs(os.environ[name], exist_ok=True)
    open(os.path.join(os.environ[name], "made"), "w").close()
assert not any("cudadoctor" in path for path in sys.path), sys.path
"""
    assert stage(imported(torch=code + TORCH), "torch").message == "2.9.0+cu128"


def test_cached_addons_are_shown_as_links_and_built_ones_do_not_stay(
    imported: Import, tmp_path: Path
) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (real / "libtorch_c_dlpack_addon_torch29-cpu.so").write_text("an add-on")
    code = """
import os
place = os.environ["TVM_FFI_CACHE_DIR"]
assert open(place + "/libtorch_c_dlpack_addon_torch29-cpu.so").read() == "an add-on"
open(place + "/built", "w").close()
"""
    host = RealHost({**os.environ, "TMPDIR": str(tmp_path / "tmp")})
    target = target_probe.probe(host, Request(prefix=str(tmp_path / "env")))
    plant(Path(target.site_packages[0]), "torch", code + TORCH)
    environ, packages = environ_probe.probe(host, target), packages_probe.probe(host, target)
    found = live.probe(host, target, environ, packages, Dlpack(False, cache=str(real)))
    assert stage(found, "torch").ended == "passed", found
    assert [path.name for path in real.iterdir()] == ["libtorch_c_dlpack_addon_torch29-cpu.so"]
    readonly = live.probe(host, target, environ, packages, Dlpack(False, cache=str(real), writable=False))
    assert stage(readonly, "torch").ended == "passed" and (real / "built").exists()


def test_an_interpreter_that_does_not_start_is_told(imported: Import, tmp_path: Path) -> None:
    python = tmp_path / "env/bin/python3"
    python.unlink()
    python.write_text("#!/bin/sh\necho no encodings >&2\nexit 1\n")
    python.chmod(0o755)
    (tmp_path / "env/bin/python").unlink()
    found = imported(torch=TORCH)
    assert {each.ended for each in found.stages} == {"not-reached"}
    assert stage(found, "torch").message == "the interpreter ended with status 1"
    assert stage(found, "torch").stderr == ("no encodings",)


def test_nothing_is_run_where_nothing_of_the_stack_is_installed(imported: Import) -> None:
    found = imported()
    assert {each.ended for each in found.stages} == {"not-reached"}
    assert stage(found, "torch").message == "torch is not installed"


def test_the_child_is_written_for_python_3_8() -> None:
    ast.parse(Path(live._SCRIPT).read_text(), feature_version=(3, 8))


@pytest.mark.parametrize("minor", [8, 9])
def test_the_child_runs_on_old_interpreters(minor: int) -> None:
    versions = sorted(Path("~/.pyenv/versions").expanduser().glob(f"3.{minor}.*/bin/python3"))
    if not versions:
        pytest.skip(f"no Python 3.{minor} of pyenv's is here")
    plan = '{"token": "T", "stages": {"driver": 9}, "cache": "", "cached": ""}'
    ran = subprocess.run(
        [versions[0], live._SCRIPT, plan], capture_output=True, text=True, start_new_session=True, timeout=30
    )
    assert ran.returncode == -9 and '"end": "driver"' in ran.stdout, ran.stderr


def test_the_text_behind_a_damaged_record_is_kept() -> None:
    ran = Ran(0, "", "before<t>00000011not a record at all, the last words\n")
    assert "the last words" in live._read(ran, "<t>", 1.0).stderr[""]
