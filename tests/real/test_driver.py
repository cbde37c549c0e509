"""The driver's probe through the real nvidia-ml-py, in its own process, on a library that answers as told."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from cudadoctor.facts import Driver, Environ, Gpu, Nvml, Variable
from cudadoctor.host import Ran, RealHost
from cudadoctor.probes import driver
from cudadoctor.simulate.devices import visible

from .conftest import _do_without
from .fake_nvml import CARDS, GIB, H100, H200, RTX_3090, RTX_4090_LAPTOP, build, installed

Place = Callable[..., dict[str, str]]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return build(tmp_path_factory.mktemp("nvml"))
    except FileNotFoundError as missing:
        _do_without(str(missing))


@pytest.fixture
def place(library: Path, tmp_path: Path) -> Place:
    """Return `place(*lines)`: the variables of a machine whose driver answers so."""

    def put(*lines: str, version: str = "550.54.14") -> dict[str, str]:
        return installed(library, tmp_path / "driver", lines, version)

    return put


def seen(environ: dict[str, str]) -> Driver:
    """Probe with the judged variables that lead to the library; LD_LIBRARY_PATH is all that does."""
    judged = {"LD_LIBRARY_PATH": Variable(environ["LD_LIBRARY_PATH"], "environment")}
    return driver.probe(RealHost(environ), Environ(judged, "the current variables"))


def asked(environ: dict[str, str], timeout_s: float = 5) -> tuple[Nvml, tuple[Gpu, ...]]:
    return driver.understood(RealHost(environ).nvml(environ, timeout_s=timeout_s))


@pytest.mark.parametrize("name", CARDS)
def test_a_card_is_seen_as_it_is(name: str, place: Place) -> None:
    found = seen(place(*CARDS[name]))
    (gpu,) = found.gpus
    lines = dict(line.split(" ", 1) for line in CARDS[name])
    assert gpu.name == lines["gpu"] and gpu.capability == f"{lines['major']}.{lines['minor']}"
    assert gpu.memory_total_bytes == (int(lines["total"]) if "total" in lines else None)
    assert gpu.memory_used_bytes == (GIB // 4 if "total" in lines else None)
    assert gpu.problem == "" and gpu.processes == ()
    assert found.nvml.ended == "answered" and found.nvml.driver == "550.54.14"
    assert found.nvml.cuda == "12.4" and found.nvml.version == "550.54.14"


def test_the_uuid_is_cut_to_what_names_a_gpu(place: Place) -> None:
    assert seen(place(*RTX_3090)).gpus[0].uuid == "GPU-0a2b3c4d"


def test_two_cards_of_different_kinds_are_told_apart(place: Place) -> None:
    found = seen(place(*RTX_3090, *RTX_4090_LAPTOP))
    assert [(gpu.index, gpu.capability) for gpu in found.gpus] == [(0, "8.6"), (1, "8.9")]


def test_mig_and_fabric_are_read(place: Place) -> None:
    divided = ("gpu NVIDIA H100 80GB HBM3", "mig 1", "migdevice MIG-5f5e1001-aaaa", "fabric 1 0")
    failed = ("gpu NVIDIA H100 80GB HBM3", "fabric 3 999")
    whole, first, second = seen(place(*H200, *divided, *failed)).gpus
    assert (whole.mig, whole.mig_devices, whole.fabric) == (False, (), "completed")
    assert (first.mig, first.mig_devices, first.fabric) == (True, ("MIG-5f5e1001",), "not-started")
    assert second.fabric == "failed: NVML_ERROR_UNKNOWN"


def test_processes_are_listed_with_what_they_hold(place: Place) -> None:
    (gpu,) = seen(place(*H100, f"process 4242 {40 * GIB}", f"process 77 {(1 << 64) - 1}")).gpus
    assert [(held.pid, held.memory_bytes) for held in gpu.processes] == [(4242, 40 * GIB), (77, None)]


ERRORS = {
    1: "UNINITIALIZED", 2: "INVALID_ARGUMENT", 3: "NOT_SUPPORTED", 4: "NO_PERMISSION",
    5: "ALREADY_INITIALIZED", 6: "NOT_FOUND", 7: "INSUFFICIENT_SIZE", 8: "INSUFFICIENT_POWER",
    9: "DRIVER_NOT_LOADED", 10: "TIMEOUT", 11: "IRQ_ISSUE", 12: "LIBRARY_NOT_FOUND",
    13: "FUNCTION_NOT_FOUND", 14: "CORRUPTED_INFOROM", 15: "GPU_IS_LOST", 16: "RESET_REQUIRED",
    17: "OPERATING_SYSTEM", 18: "LIB_RM_VERSION_MISMATCH", 19: "IN_USE", 20: "MEMORY", 21: "NO_DATA",
    23: "INSUFFICIENT_RESOURCES", 999: "UNKNOWN",
}  # fmt: skip


@pytest.mark.parametrize("code", ERRORS)
def test_each_error_of_the_start_is_named(code: int, place: Place) -> None:
    nvml = seen(place(f"init {code}", *RTX_3090)).nvml
    assert nvml.ended == "refused" and nvml.error == f"NVML_ERROR_{ERRORS[code]}" and nvml.reason
    assert nvml.version == "550.54.14", "the library that refuses is known by its file"


@pytest.mark.parametrize("code", ERRORS)
def test_each_error_of_one_gpu_leaves_the_other_one_whole(code: int, place: Place) -> None:
    broken = (*RTX_4090_LAPTOP, f"error nvmlDeviceGetHandleByIndex_v2 {code}")
    whole, lost = seen(place(*RTX_3090, *broken)).gpus
    assert whole.problem == "" and whole.name and lost.problem == f"NVML_ERROR_{ERRORS[code]}"


FUNCTIONS = {
    "nvmlDeviceGetName": "name",
    "nvmlDeviceGetUUID": "uuid",
    "nvmlDeviceGetCudaComputeCapability": "capability",
    "nvmlDeviceGetMigMode": "mig",
    "nvmlDeviceGetGpuFabricInfoV": "fabric",
}


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("code", [3, 13, 15, 999])
def test_an_error_of_one_question_leaves_the_other_answers(function: str, code: int, place: Place) -> None:
    (gpu,) = seen(place(*H100, f"error {function} {code}")).gpus
    assert not getattr(gpu, FUNCTIONS[function]) and gpu.memory_total_bytes
    fatal = code in (15, 999) and function != "nvmlDeviceGetGpuFabricInfoV"
    assert gpu.problem == (f"NVML_ERROR_{ERRORS[code]}" if fatal else "")


def test_a_driver_before_the_newer_form_of_memory_is_asked_for_the_older(place: Place) -> None:
    (gpu,) = seen(place(*RTX_3090, "error nvmlDeviceGetMemoryInfo_v2 13")).gpus
    assert gpu.memory_used_bytes == GIB // 2, "what the driver keeps for itself counts as used"


def test_a_lost_gpu_is_no_gpu_with_shared_memory(place: Place) -> None:
    (gpu,) = seen(
        place(*RTX_3090, "error nvmlDeviceGetMemoryInfo_v2 15", "error nvmlDeviceGetMemoryInfo 15")
    ).gpus
    assert gpu.memory_total_bytes is None and gpu.problem == "NVML_ERROR_GPU_IS_LOST"


def test_a_library_that_hangs_is_given_up_and_its_process_ended(place: Place) -> None:
    environ = place("dies hang", *RTX_3090)
    started = time.monotonic()
    nvml, gpus = asked(environ, timeout_s=0.6)
    assert nvml.ended == "timeout" and gpus == () and time.monotonic() - started < 2
    folder = environ["LD_LIBRARY_PATH"]
    maps = (Path(f"/proc/{pid}/maps") for pid in os.listdir("/proc") if pid.isdigit())
    assert not [file for file in maps if folder in _readable(file)]


def _readable(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("abort", "was aborted (SIGABRT): NVML: assertion failed"),
        ("segfault", "crashed (SIGSEGV)"),
        ("exit", "ended with status 7"),
    ],
)
def test_a_library_that_dies_takes_nobody_with_it(how: str, says: str, place: Place) -> None:
    nvml = seen(place(f"dies {how}", *RTX_3090)).nvml
    assert nvml.ended == "crashed" and nvml.reason == f"the process that asked NVML {says}"


def test_what_the_library_prints_is_no_answer(place: Place) -> None:
    found = seen(place("prints yes", *RTX_3090))
    assert found.nvml.ended == "answered" and len(found.gpus) == 1


def test_a_file_that_is_no_library_is_not_found(place: Place) -> None:
    environ = place(*RTX_3090)
    Path(environ["LD_LIBRARY_PATH"], "libnvidia-ml.so.550.54.14").write_bytes(b"\x7fELF" + bytes(9))
    nvml, _ = asked(environ)
    assert nvml.ended == "refused" and nvml.error == "NVML_ERROR_LIBRARY_NOT_FOUND"


def test_without_a_sign_of_a_gpu_no_process_is_started() -> None:
    class Deaf(RealHost):
        def nvml(self, environ: Mapping[str, str], *, timeout_s: float = 5) -> Ran:
            raise AssertionError("asked")

    found = driver.probe(Deaf({"PATH": "/usr/bin"}), Environ({}, "the current variables"))
    if found.signs():
        pytest.skip("this machine has a GPU")
    assert found.nvml.ended == "not-asked"


@pytest.mark.parametrize("name", CARDS)
def test_check_names_the_gpu_in_its_head(name: str, place: Place, tmp_path: Path) -> None:
    ran = check(place(*CARDS[name]), "text")
    assert (
        dict(line.split(" ", 1) for line in CARDS[name])["gpu"] in ran
        and "driver 550.54.14 (CUDA 12.4)" in ran
    )


def check(environ: dict[str, str], form: str) -> str:
    command = [sys.executable, "-m", "cudadoctor", "check", "--no-config", "--format", form]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False).stdout


def with_libcuda(environ: dict[str, str]) -> dict[str, str]:
    """Put a libcuda.so.1 beside the library, as a driver has it: here it is only looked at."""
    folder = Path(environ["LD_LIBRARY_PATH"])
    (folder / "libcuda.so.1").symlink_to("libnvidia-ml.so.550.54.14")
    return environ


@pytest.mark.parametrize("given", [RTX_3090, (*RTX_3090, "error nvmlDeviceGetName 7"), RTX_3090 * 40])
def test_a_container_with_nvml_and_without_libcuda_is_reported(given: tuple[str, ...], place: Place) -> None:
    environ = {**place(*given), "NVIDIA_DRIVER_CAPABILITIES": "utility", "container": "podman"}
    before = outcomes(environ)["gpu-not-visible"]
    assert "not its libcuda.so.1" in before["findings"][0]["summary"]
    assert outcomes(with_libcuda(environ))["gpu-not-visible"]["outcome"] == "passed"


@pytest.mark.parametrize(("init", "named"), [(18, "driver-library-mismatch"), (9, "gpu-not-visible")])
def test_a_refusal_in_a_container_ends_in_one_finding(init: int, named: str, place: Place) -> None:
    environ = place(f"init {init}", *RTX_3090)
    environ |= {"container": "podman", "NVIDIA_VISIBLE_DEVICES": "GPU-0a2b3c4d"}
    ended = outcomes(with_libcuda(environ))
    failed = [name for name, each in ended.items() if each["outcome"] == "failed"]
    assert [name for name in failed if name.startswith(("driver-", "gpu-"))] == [named]


@pytest.mark.parametrize("function", ["nvmlDeviceGetName", "nvmlDeviceGetUUID"])
def test_a_text_that_is_no_utf_8_says_nothing_about_the_gpu(function: str, place: Place) -> None:
    fields = {"nvmlDeviceGetName": "gpu NVIDIA \udcff\udcfe", "nvmlDeviceGetUUID": "uuid GPU-\udcff"}
    lines = [fields[function] if line.startswith(fields[function][:4]) else line for line in RTX_3090]
    (gpu,) = seen(place(*lines)).gpus
    assert gpu.problem == "" and gpu.capability == "8.6" and gpu.memory_total_bytes


@pytest.mark.parametrize("numbers", [(-1, 2147483647), (0, 0), (2147483647, 0), (8, -6), (9, 2147483647)])
def test_numbers_that_are_no_capability_are_unknown(numbers: tuple[int, int], place: Place) -> None:
    major, minor = numbers
    lines = ("gpu NVIDIA H100", f"major {major}", f"minor {minor}", "total 1", "used 1", "free 0")
    (gpu,) = seen(place(*lines)).gpus
    assert (gpu.name, gpu.capability, gpu.memory_total_bytes) == ("NVIDIA H100", "", None)


def test_many_lost_gpus_are_one_finding_of_the_report(place: Place) -> None:
    lost = ("gpu NVIDIA H100", "error nvmlDeviceGetHandleByIndex_v2 15")
    (finding,) = outcomes(place(*lost * 300))["driver-not-answering"]["findings"]
    assert finding["summary"] == "256 GPUs do not work: gpu is lost" and len(finding["evidence"]) < 12


def outcomes(environ: dict[str, str]) -> dict[str, dict[str, Any]]:
    return {each["check"]: each for each in json.loads(check(environ, "json"))["outcomes"]}


def test_a_healthy_driver_gives_no_error_and_no_warning(place: Place) -> None:
    report = json.loads(check(with_libcuda(place(*H100, *H100, *H100, *H100)), "json"))
    names = ("driver-", "gpu-", "fabric-", "forward-")
    ended = {o["check"]: o for o in report["outcomes"] if o["check"].startswith(names)}
    assert len(ended) == 9 and {o["outcome"] for o in ended.values()} <= {"passed", "skipped"}, ended


#: What torch counts with these values: its own reading of CUDA_VISIBLE_DEVICES over the same library.
VALUES = [
    None, "", "0", "1", "0,1", "1,0", "-1", "all", "0,-1", "0,,1", "0,0", "2", "0,2,1", "1,7", " 0 , 1 ",
    "0gpu,1gpu", "+1", "NoDevFiles", "GPU-0a2b3c4d", "GPU-0a2b3c4d,GPU-1a2b3c4d", "GPU-1a2b3c4d,0",
    "GPU-0a2b3c4d,GPU-0a2b3c4d", "GPU-0a,GPU-0a2b3c4d-0000", "GPU-ffffffff", "GPU-0a2b3c4d,GPU-ffffffff",
    "GPU-", "0,GPU-1a2b3c4d",
]  # fmt: skip


@pytest.mark.stack
def test_torch_sees_as_many_gpus_as_our_reading_of_the_variable(place: Place) -> None:
    prefix = os.environ.get("CUDADOCTOR_STACK")
    if not prefix:
        pytest.fail("CUDADOCTOR_STACK names no environment with torch", pytrace=False)
    environ = place(*RTX_3090, *RTX_4090_LAPTOP)
    gpus = seen(environ).gpus
    code = (
        "import json, os, torch\n"
        f"for value in {VALUES!r}:\n"
        "    os.environ.pop('CUDA_VISIBLE_DEVICES', None)\n"
        "    if value is not None: os.environ['CUDA_VISIBLE_DEVICES'] = value\n"
        "    print(torch.cuda._device_count_nvml())\n"
    )
    ran = subprocess.run(
        [f"{prefix}/bin/python", "-c", code], env=environ, capture_output=True, text=True, check=True
    )
    ours = []
    for value in VALUES:
        held = {} if value is None else {"CUDA_VISIBLE_DEVICES": Variable(value, "environment")}
        held["CUDA_DEVICE_ORDER"] = Variable("PCI_BUS_ID", "environment")
        ours.append(len(visible(gpus, Environ(held, "")).gpus))
    theirs = [int(line) for line in ran.stdout.split()]
    assert [(v, a) for v, a in zip(VALUES, ours, strict=True)] == [
        (v, b) for v, b in zip(VALUES, theirs, strict=True)
    ]
