import json
from typing import Any

import pytest

from cudadoctor.facts import Driver, Environ, Gpu, Variable
from cudadoctor.host import Ran
from cudadoctor.probes.driver import probe, understood
from cudadoctor.testing import FakeHost, Link, Special
from tests.elves import loader_cache

LIB = "/usr/lib/x86_64-linux-gnu"
ELF64 = b"\x7fELF\x02\x01\x01" + bytes(11) + (62).to_bytes(2, "little")
ELF32 = b"\x7fELF\x01\x01\x01" + bytes(11) + (3).to_bytes(2, "little")
CLOSED = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 01:44:30 UTC 2024\nGCC version: 12"
)
OPEN = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (root@host)  Sep 23\n"
)
ANSWER = json.dumps({"driver": "550.54.14", "cuda": 12040, "gpus": [{"index": 0, "capability": [8, 6]}]})
ANSWERS = Ran(0, ANSWER, "")


def pci(address: str, vendor: str = "0x10de", kind: str = "0x030000", driver: str = "") -> dict[str, object]:
    folder = f"/sys/bus/pci/devices/{address}"
    bound = {f"{folder}/driver": Link(f"/sys/bus/pci/drivers/{driver}")} if driver else {}
    module = {f"/sys/bus/pci/drivers/{driver}/": b""} if driver else {}
    about = {"vendor": f"{vendor}\n", "class": f"{kind}\n", "device": "0x2204\n"}
    return {**{f"{folder}/{name}": text for name, text in about.items()}, **bound, **module}


def cache(*paths: str) -> dict[str, object]:
    return {"/etc/ld.so.cache": loader_cache(*paths)}


def real(name: str, folder: str = LIB, version: str = "550.54.14") -> dict[str, object]:
    return {f"{folder}/{name}.so.1": Link(f"{name}.so.{version}"), f"{folder}/{name}.so.{version}": ELF64}


WITH_DRIVER: dict[str, object] = {
    **pci("0000:01:00.0", driver="nvidia"),
    "/proc/driver/nvidia/version": CLOSED,
    "/dev/nvidia0": Special(),
    "/dev/nvidiactl": Special(),
    "/dev/nvidia-uvm": Special(),
    **real("libcuda"),
    **real("libnvidia-ml"),
    **cache(f"{LIB}/libcuda.so.1", f"{LIB}/libnvidia-ml.so.1"),
}


def seen(
    files: dict[str, object], nvml: Ran | None = ANSWERS, /, kernel: str = "6.1.0", **more: Any
) -> Driver:
    variables = more.pop("variables", {})
    held = {name: Variable(value, "environment") for name, value in variables.items()}
    return probe(FakeHost(files, nvml=nvml, kernel=kernel, **more), Environ(held, "the current variables"))


def test_sees_a_driver_at_work() -> None:
    found = seen(WITH_DRIVER)
    assert (found.module, found.module_source) == ("550.54.14", "/proc/driver/nvidia/version")
    assert [node.path for node in found.nodes] == ["/dev/nvidia-uvm", "/dev/nvidia0", "/dev/nvidiactl"]
    assert found.library is not None and found.library.version == "550.54.14"
    assert found.pci[0].driver == "nvidia" and found.gpus == (Gpu(0, capability="8.6"),)
    assert found.nvml.cuda == "12.4" and found.built is None


def test_a_machine_without_a_gpu_is_asked_nothing() -> None:
    files = {**pci("0000:00:02.0", "0x8086"), **pci("0000:00:1f.0", kind="0x040300"), "/dev/null": Special()}
    found = seen(files, None)
    assert found.signs() == () and found.nvml.ended == "not-asked"


def test_the_library_alone_is_reason_enough_to_ask() -> None:
    files = {**real("libnvidia-ml"), **cache(f"{LIB}/libnvidia-ml.so.1")}
    found = seen(files, Ran(0, '{"error": ["NVML_ERROR_DRIVER_NOT_LOADED", "Driver Not Loaded"]}', ""))
    assert found.signs() == () and found.nvml.error == "NVML_ERROR_DRIVER_NOT_LOADED"


def test_a_library_named_by_the_cache_that_is_gone_is_no_reason() -> None:
    assert seen(cache(f"{LIB}/libnvidia-ml.so.1"), None).nvml.ended == "not-asked"


@pytest.mark.parametrize(
    "files",
    [
        pci("0000:01:00.0", kind="0x030200"),
        {"/dev/nvidiactl": Special()},
        {"/sys/module/nvidia/version": "550.54.14\n"},
        {"/usr/lib/wsl/lib/libcuda.so.1": ELF64},
    ],
)
def test_each_sign_of_a_gpu_is_one(files: dict[str, object]) -> None:
    assert len(seen(files).signs()) == 1


@pytest.mark.parametrize(
    ("value", "asks"), [("all", True), ("0,1", True), ("void", False), ("none", False), ("", False)]
)
def test_a_container_is_a_sign_where_it_asks_for_gpus(value: str, asks: bool) -> None:
    found = seen({}, ANSWERS if asks else None, variables={"NVIDIA_VISIBLE_DEVICES": value})
    assert bool(found.signs()) == asks


def test_dxg_alone_may_be_any_gpu() -> None:
    found = seen({"/dev/dxg": Special()}, None, kernel="5.15.167.4-microsoft-standard-WSL2")
    assert [node.path for node in found.nodes] == ["/dev/dxg"] and found.signs() == ()


@pytest.mark.parametrize(
    ("text", "version"), [(CLOSED, "550.54.14"), (OPEN, "580.95.05"), ("", ""), ("NVRM\0", "")]
)
def test_the_version_of_the_module_is_read(text: str, version: str) -> None:
    assert seen({"/dev/nvidia0": Special(), "/proc/driver/nvidia/version": text}).module == version


def test_a_device_that_this_user_may_not_open_is_known() -> None:
    found = seen(WITH_DRIVER, forbidden=["/dev/nvidia0"])
    assert {node.path: node.usable for node in found.nodes}["/dev/nvidia0"] is False


def test_ld_library_path_comes_before_the_cache() -> None:
    compat = real("libcuda", "/usr/local/cuda-12.9/compat", "575.57.08")
    found = seen(
        {**WITH_DRIVER, **compat},
        variables={"LD_LIBRARY_PATH": "/none:/usr/local/cuda-12.9/compat"},
    )
    assert [(lib.version, lib.compat) for lib in found.libraries] == [
        ("575.57.08", True),
        ("550.54.14", False),
    ]
    assert found.library is not None and found.library.found_by == "LD_LIBRARY_PATH"


def test_stubs_and_libraries_of_32_bits_are_no_driver() -> None:
    stubs = {"/usr/local/cuda/lib64/stubs/libcuda.so.1": ELF64, "/usr/lib/i386-linux-gnu/libcuda.so.1": ELF32}
    files = {**pci("0000:01:00.0"), **stubs, **cache("/usr/lib/i386-linux-gnu/libcuda.so.1")}
    assert seen(files, variables={"LD_LIBRARY_PATH": "/usr/local/cuda/lib64/stubs"}).libraries == ()


def test_a_library_off_the_loaders_way_is_found_and_not_reached() -> None:
    found = seen({"/usr/lib/wsl/lib/libcuda.so.1": ELF64})
    assert found.library is None and found.libraries[0].path == "/usr/lib/wsl/lib/libcuda.so.1"


def test_that_of_wsl_has_no_version() -> None:
    files = {
        "/usr/lib/wsl/lib/libcuda.so.1": Link("libcuda.so.1.1"),
        "/usr/lib/wsl/lib/libcuda.so.1.1": ELF64,
    }
    found = seen({**files, **cache("/usr/lib/wsl/lib/libcuda.so.1")})
    assert found.library is not None and found.library.version == ""


@pytest.mark.parametrize(
    ("listed", "built"),
    [("kernel/drivers/video/nvidia.ko.zst:\n", True), ("updates/dkms/nvidia.ko: kernel/drm.ko\n", True),
     ("kernel/drivers/video/fbdev/nvidia/nvidiafb.ko:\n", False), ("", False), (None, None)],
)  # fmt: skip
def test_knows_whether_this_kernel_has_a_module_to_load(listed: str | None, built: bool | None) -> None:
    modules = {} if listed is None else {"/lib/modules/6.1.0/modules.dep": listed}
    assert seen({**pci("0000:01:00.0", driver="nouveau"), **modules}).built is built


def test_nvml_is_asked_with_the_judged_variables() -> None:
    asked: list[dict[str, str]] = []

    class Recording(FakeHost):
        def nvml(self, environ: Any, *, timeout_s: float = 5) -> Ran:
            asked.append(dict(environ))
            return ANSWERS

    host = Recording(WITH_DRIVER, {"LD_LIBRARY_PATH": "/now", "LANG": "C"})
    probe(host, Environ({"LD_LIBRARY_PATH": Variable("/then", "activation")}, ""))
    probe(host, Environ({}, "without it"))
    assert asked[0]["LD_LIBRARY_PATH"] == "/then" and asked[0]["LANG"] == "C"
    assert "LD_LIBRARY_PATH" not in asked[1]


@pytest.mark.parametrize(
    ("ran", "says"),
    [
        (Ran(-9, "", "", True), "did not answer within 5 s"),
        (Ran(-11, "", "one\nlast words\n"), "crashed (SIGSEGV): last words"),
        (Ran(127, "", "", problem="No such file or directory"), "asking NVML failed: No such file"),
        (Ran(0, "{}x", ""), "gave no answer"),
        (Ran(0, '{"gpus": 3}', ""), "gave no answer"),
        (Ran(1, "\udcff", "bad \x1b[31m"), "ended with status 1: bad ?[31m"),
    ],
)
def test_whatever_goes_wrong_is_told_in_one_line(ran: Ran, says: str) -> None:
    nvml, gpus = understood(ran)
    assert says in nvml.reason and "\n" not in nvml.reason and gpus == ()


def test_no_total_is_no_memory() -> None:
    answer = {"gpus": [{"index": 0, "name": "NVIDIA GB10", "capability": [12, 1], "memory": [0, 0, 0]}]}
    _, (gpu,) = understood(Ran(0, json.dumps(answer), ""))
    assert (gpu.memory_total_bytes, gpu.memory_used_bytes, gpu.memory_free_bytes) == (None, None, None)
