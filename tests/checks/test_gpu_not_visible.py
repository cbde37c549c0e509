from typing import Any

import pytest

from cudadoctor.facts import DeviceNode, Driver, DriverLibrary, PciGpu
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import environ, one, packages, shown
from .gpus import NO_NVML, NOTHING, driver, gpu, host, refused

PAIR = (gpu(), gpu("NVIDIA H100 80GB HBM3", "9.0", 80, uuid="GPU-1a2b3c4d"))


def outcome(
    seen: Driver, variables: dict[str, str] | None = None, cuda: str = "12.8", **machine: Any
) -> Outcome:
    held = environ(**(variables or {}))
    return judge(
        "gpu-not-visible", driver=seen, environ=held, machine=host(**machine), packages=packages(cuda=cuda)
    )


def listed(value: str, *gpus: Any) -> Outcome:
    return outcome(driver(*gpus), {"CUDA_VISIBLE_DEVICES": value})


@pytest.mark.parametrize("value", ["all", "2", "7,0", "GPU-ffffffff", "0,0", "NoDevFiles"])
def test_reports_a_list_that_leaves_no_gpu(value: str) -> None:
    finding = one(listed(value, *PAIR), Severity.ERROR)
    assert "hides every GPU" in finding.summary and f"CUDA_VISIBLE_DEVICES={value}" in shown(finding)


@pytest.mark.parametrize("value", ["", "-1"])
def test_one_that_hides_them_on_purpose_is_a_warning(value: str) -> None:
    one(listed(value), Severity.WARNING)


@pytest.mark.parametrize("value", ["0,5,1", "1,-1", "GPU-1a2b3c4d,GPU-ffffffff"])
def test_one_that_ends_early_is_a_warning(value: str) -> None:
    assert "ends early" in one(listed(value, *PAIR), Severity.WARNING).summary


@pytest.mark.parametrize(
    "value", ["0", "1", "1,0", "GPU-1a2b", "GPU-1a2b3c4d-5678-0000", "GPU-0a2b3c4d,GPU-1a2b3c4d"]
)
def test_is_silent_about_a_choice_among_those_there_are(value: str) -> None:
    assert isinstance(listed(value, *PAIR), Passed)


def bare(**more: Any) -> Driver:
    """Return what a container sees of a GPU that it was not given: the bus."""
    none = {"module": "", "module_source": "", "nodes": (), "libraries": (), "gpus": (), "nvml": NO_NVML}
    return driver(**{**none, **more})


@pytest.mark.parametrize(
    ("container", "says"),
    [("docker", "docker run --gpus all"), ("podman", "nvidia.com/gpu=all"), ("apptainer", "--nv"),
     ("kubernetes", "nvidia.com/gpu: 1"), ("lxc", "with its GPUs")],
)  # fmt: skip
def test_reports_a_container_without_its_gpu(container: str, says: str) -> None:
    finding = one(outcome(bare(), container=container), Severity.ERROR)
    assert "started without a GPU" in finding.summary and says in shown(finding)


def test_reports_a_container_that_asked_for_gpus_and_got_none() -> None:
    finding = one(outcome(bare(pci=(), asked_for="GPU-1a2b3c4d"), container="docker"), Severity.ERROR)
    assert "NVIDIA_VISIBLE_DEVICES=GPU-1a2b3c4d" in shown(finding)


def test_what_the_image_asks_for_alone_is_no_sign_of_a_gpu() -> None:
    finding = one(outcome(bare(pci=(), asked_for="all"), container="docker"), Severity.NOTE)
    assert finding.summary == "this container was started without a GPU, which its image asks for"
    one(outcome(bare(asked_for="all"), container="docker"), Severity.ERROR)


def test_names_the_capability_that_brings_the_library() -> None:
    seen = bare(nodes=driver().nodes)
    finding = one(outcome(seen, {"NVIDIA_DRIVER_CAPABILITIES": "utility"}, container="docker"))
    assert "no `compute` in it" in shown(finding) and "compute,utility" in shown(finding)


def test_reports_a_container_that_was_given_nvml_alone() -> None:
    """With `utility` in NVIDIA_DRIVER_CAPABILITIES nvidia-smi works, and nothing that computes does."""
    seen, given = driver(libraries=()), {"NVIDIA_DRIVER_CAPABILITIES": "utility"}
    finding = one(outcome(seen, given, container="docker"), Severity.ERROR)
    assert "not its libcuda.so.1" in finding.summary and "no `compute` in it" in shown(finding)
    plain = one(outcome(seen, container="docker"), Severity.ERROR)
    assert "the GPU and not its libcuda.so.1" in plain.summary
    assert isinstance(outcome(seen), Passed), "outside of a container it is driver-missing's"


def test_names_a_library_that_the_containers_loader_does_not_reach() -> None:
    away = DriverLibrary("/usr/lib64/libcuda.so.1", "a usual place", reached=False)
    finding = one(outcome(driver(libraries=(away,)), container="docker"), Severity.ERROR)
    assert away.path in shown(finding) and "ldconfig" in shown(finding)


def test_a_container_without_nvml_matters_to_vllm_alone() -> None:
    seen, given = driver(gpus=(), nvml=NO_NVML), {"NVIDIA_DRIVER_CAPABILITIES": "compute"}
    finding = one(outcome(seen, given, container="docker"), Severity.NOTE)
    assert "not its libnvidia-ml.so.1" in finding.summary and "no `utility` in it" in shown(finding)
    held: dict[str, Any] = {"driver": seen, "environ": environ(), "machine": host(container="docker")}
    one(judge("gpu-not-visible", packages=packages(vllm="0.12.0"), **held), Severity.ERROR)


def test_a_mismatch_is_no_container_without_a_gpu() -> None:
    seen = driver(libraries=(), gpus=(), nvml=refused("LIB_RM_VERSION_MISMATCH"))
    assert isinstance(outcome(seen, container="docker"), Passed)


def test_reports_a_container_with_nodes_and_without_libraries() -> None:
    finding = one(outcome(bare(nodes=driver().nodes), container="docker"))
    assert "not the driver's libraries" in finding.summary


def test_reports_device_files_that_are_closed() -> None:
    nodes = (DeviceNode("/dev/nvidia0", False), DeviceNode("/dev/nvidiactl", True))
    seen = driver(nodes=nodes, gpus=(), nvml=refused("NO_PERMISSION"))
    finding = one(outcome(seen), Severity.ERROR)
    assert "/dev/nvidia0" in shown(finding) and "/dev/nvidiactl:" not in shown(finding)


def test_reports_device_files_that_are_missing() -> None:
    seen = driver(nodes=(), gpus=(), nvml=refused("DRIVER_NOT_LOADED"))
    assert "nvidia-modprobe" in shown(one(outcome(seen)))


def test_reports_a_driver_that_drives_nothing() -> None:
    assert "drives no GPU" in one(outcome(driver(gpus=())), Severity.ERROR).summary


def test_reports_mig_mode_without_a_mig_device() -> None:
    divided = gpu("NVIDIA H100 80GB HBM3", "9.0", 80, mig=True)
    assert "MIG" in one(outcome(driver(divided)), Severity.ERROR).summary
    one(outcome(driver(gpu(), divided)), Severity.WARNING)


def test_is_silent_about_mig_devices() -> None:
    divided = gpu("NVIDIA H100 80GB HBM3", "9.0", 80, mig=True, mig_devices=("MIG-5f5e1001",))
    assert isinstance(outcome(driver(divided)), Passed)
    assert isinstance(listed("MIG-5f5e1001-aaaa", divided), Passed)


def test_is_silent_when_healthy_or_absent() -> None:
    assert isinstance(outcome(driver()), Passed)
    assert isinstance(outcome(driver(), container="docker"), Passed)
    assert isinstance(outcome(NOTHING, {"CUDA_VISIBLE_DEVICES": ""}), Skipped)
    assert isinstance(outcome(NOTHING, container="docker"), Skipped)


def test_does_not_apply_to_a_torch_without_cuda() -> None:
    assert isinstance(outcome(bare(pci=(PciGpu("0000:01:00.0", "0x2204"),)), cuda=""), Skipped)
