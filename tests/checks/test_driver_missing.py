from typing import Any

from msgspec import structs

from cudadoctor.facts import Driver, DriverLibrary, PciGpu
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import one, packages, shown
from .gpus import NO_NVML, NOTHING, PCI, driver, host, library, refused


def outcome(seen: Driver, more: dict[str, str] | None = None, **machine: Any) -> Outcome:
    return judge("driver-missing", driver=seen, machine=host(**machine), packages=packages(**(more or {})))


def without_module(**more: Any) -> Driver:
    none = {
        "module": "",
        "module_source": "",
        "nodes": (),
        "gpus": (),
        "pci": (PciGpu("0000:01:00.0", "0x2204"),),
    }
    return driver(**{**none, "nvml": refused("DRIVER_NOT_LOADED"), **more})


def test_reports_a_gpu_without_any_driver() -> None:
    finding = one(outcome(without_module(libraries=(), nvml=NO_NVML)), Severity.ERROR)
    assert "no NVIDIA driver is installed" in finding.summary
    assert "0000:01:00.0" in shown(finding) and "as the distribution packages it" in shown(finding)


def test_says_no_command_of_a_distribution() -> None:
    finding = one(outcome(without_module(libraries=(), nvml=NO_NVML)))
    assert "sudo" not in shown(finding) and finding.remedies[0].fix == "show"


def test_reports_a_module_that_is_not_loaded() -> None:
    finding = one(outcome(without_module()), Severity.ERROR)
    assert "kernel module is not loaded" in finding.summary and "modprobe nvidia" in shown(finding)


def test_names_nouveau_where_it_has_the_gpu() -> None:
    held = PciGpu("0000:01:00.0", "0x2204", "nouveau")
    finding = one(outcome(without_module(pci=(held,))))
    assert "nouveau has the GPU" in finding.summary and "blacklisted" in shown(finding)


def test_names_a_kernel_for_which_no_module_was_built() -> None:
    finding = one(outcome(without_module(built=False)))
    assert "there is none for the running kernel 6.1.0" in finding.summary


def test_reports_a_module_without_its_library() -> None:
    finding = one(outcome(driver(libraries=(), nvml=NO_NVML, gpus=())), Severity.ERROR)
    assert "there is no libcuda.so.1" in finding.summary


def test_reports_a_library_that_the_loader_does_not_reach() -> None:
    away = DriverLibrary("/usr/lib/wsl/lib/libcuda.so.1", "a usual place", reached=False)
    seen = Driver(wsl="/usr/lib/wsl/lib", libraries=(away,), nvml=NO_NVML)
    finding = one(outcome(seen, wsl=True), Severity.ERROR)
    assert "/usr/lib/wsl/lib" in shown(finding) and "ldconfig" in shown(finding)


def test_a_missing_nvml_is_an_error_for_vllm_alone() -> None:
    seen = driver(nvml=NO_NVML, gpus=())
    one(outcome(seen), Severity.WARNING)
    one(outcome(seen, {"vllm": "0.12.0"}), Severity.ERROR)


def test_is_a_warning_where_nothing_of_the_stack_is_installed() -> None:
    bare = {"torch": "", "flashinfer": ""}
    one(outcome(without_module(libraries=(), nvml=NO_NVML), bare), Severity.WARNING)


def test_is_silent_when_healthy() -> None:
    assert isinstance(outcome(driver()), Passed)


def test_is_silent_on_wsl_with_the_driver_of_windows() -> None:
    wsl = "/usr/lib/wsl/lib"
    there = library("", f"{wsl}/libcuda.so.1")
    seen = driver(module="", module_source="", nodes=(), pci=(), wsl=wsl, libraries=(there,))
    assert isinstance(outcome(seen, wsl=True), Passed)


def test_is_silent_without_a_gpu() -> None:
    assert isinstance(outcome(NOTHING), Skipped)


def test_is_silent_where_the_gpu_is_set_aside_for_a_virtual_machine() -> None:
    aside = PciGpu("0000:01:00.0", "0x2204", "vfio-pci")
    assert isinstance(outcome(without_module(libraries=(), nvml=NO_NVML, pci=(aside,))), Skipped)


def test_a_variable_that_asks_for_gpus_is_no_gpu() -> None:
    asked = structs.replace(NOTHING, asked_for="all", nvml=NO_NVML)
    assert isinstance(outcome(asked), Skipped)
    one(outcome(structs.replace(asked, pci=(PciGpu("0000:01:00.0", "0x2204"),))), Severity.ERROR)


def test_leaves_containers_to_the_check_that_knows_them() -> None:
    assert isinstance(outcome(without_module(libraries=(), pci=(PCI,)), container="docker"), Skipped)


def test_does_not_apply_to_a_torch_without_cuda() -> None:
    assert isinstance(outcome(without_module(), {"cuda": ""}), Skipped)
