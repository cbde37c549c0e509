"""The host's limits as containers, control groups and WSL set them."""

import os
from collections.abc import Mapping
from typing import Any

import pytest

from cudadoctor.facts import Machine
from cudadoctor.host import Memory, RealHost, Stack
from cudadoctor.probes.machine import probe
from cudadoctor.testing import FakeHost

GIB = 1 << 30
V2, V1 = "/sys/fs/cgroup", "/sys/fs/cgroup/memory"


def seen(files: Mapping[str, object] | None = None, **options: Any) -> Machine:
    return probe(FakeHost(files, memory=Memory(64 * GIB, 48 * GIB), **options))


def memory(files: Mapping[str, object]) -> tuple[float, float]:
    machine = seen(files)
    return machine.memory_total_bytes / GIB, machine.memory_available_bytes / GIB


def test_a_plain_host() -> None:
    machine = seen(stack=Stack(8192, None), cores=16, home="/home/ada")
    assert (machine.arch, machine.system, machine.cores, machine.home) == ("x86_64", "Linux", 16, "/home/ada")
    assert (machine.memory_total_bytes, machine.memory_available_bytes) == (64 * GIB, 48 * GIB)
    assert (machine.stack_soft_kib, machine.stack_hard_kib) == (8192, None)
    assert (machine.container, machine.wsl, machine.modules) == ("", False, ())


def test_an_aarch64_host() -> None:
    assert seen(arch="aarch64").arch == "aarch64"


@pytest.mark.parametrize(
    ("kernel", "wsl"),
    [
        ("5.15.153.1-microsoft-standard-WSL2", True),
        ("4.4.0-19041-Microsoft", True),
        ("6.8.0-45-generic", False),
        ("6.1.0-azure", False),
    ],
)
def test_wsl_is_told_by_the_kernel(kernel: str, wsl: bool) -> None:
    assert seen(kernel=kernel).wsl is wsl


@pytest.mark.parametrize(
    ("files", "environ", "container"),
    [
        ({"/.dockerenv": ""}, {}, "docker"),
        ({"/run/.containerenv": ""}, {"container": "podman"}, "podman"),
        ({}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "kubernetes"),
        ({}, {"container": "lxc"}, "lxc"),
        ({"/run/systemd/container": "systemd-nspawn\n"}, {}, "systemd-nspawn"),
        ({"/.singularity.d/": ""}, {}, "apptainer"),
        ({}, {"APPTAINER_CONTAINER": "/images/vllm.sif"}, "apptainer"),
        ({}, {}, ""),
    ],
)
def test_containers_are_told_by_their_marks(
    files: dict[str, object], environ: dict[str, str], container: str
) -> None:
    assert seen(files, environ=environ).container == container


def test_a_container_s_memory_limit_counts_and_its_page_cache_does_not() -> None:
    files: dict[str, object] = {
        "/proc/self/cgroup": "0::/\n",
        f"{V2}/memory.max": f"{8 * GIB}\n",
        f"{V2}/memory.current": f"{6 * GIB}\n",
        f"{V2}/memory.stat": f"anon {2 * GIB}\nfile {4 * GIB}\ninactive_file {3 * GIB}\n",
    }
    assert memory(files) == (8, 5)


def test_the_smallest_limit_on_the_way_to_the_root_counts() -> None:
    files: dict[str, object] = {
        "/proc/self/cgroup": "0::/user.slice/job.scope\n",
        f"{V2}/user.slice/job.scope/memory.max": "max\n",
        f"{V2}/user.slice/memory.max": f"{16 * GIB}\n",
        f"{V2}/user.slice/memory.current": f"{15 * GIB}\n",
    }
    assert memory(files) == (16, 1)


def test_a_path_from_outside_the_container_does_not_hide_its_limit() -> None:
    files: dict[str, object] = {"/proc/self/cgroup": "0::/../../pod\n", f"{V2}/memory.max": f"{4 * GIB}\n"}
    assert memory(files) == (4, 4)


def test_version_1_limits_count_for_a_job_and_for_a_container() -> None:
    job = f"{V1}/slurm/uid_1000/job_7"
    files: dict[str, object] = {
        "/proc/self/cgroup": "5:cpu,cpuacct:/\n4:memory:/slurm/uid_1000/job_7\n0::/\n",
        f"{job}/memory.limit_in_bytes": f"{10 * GIB}\n",
        f"{job}/memory.usage_in_bytes": f"{4 * GIB}\n",
        f"{job}/memory.stat": f"inactive_file 0\ntotal_inactive_file {1 * GIB}\n",
        f"{V1}/memory.limit_in_bytes": "9223372036854771712\n",
    }
    assert memory(files) == (10, 7)
    outside = {"/proc/self/cgroup": "4:memory:/docker/0123\n", f"{V1}/memory.limit_in_bytes": f"{GIB}\n"}
    assert memory(outside) == (1, 1)


def test_a_limit_above_what_there_is_changes_nothing() -> None:
    assert memory({f"{V2}/memory.max": f"{512 * GIB}\n", f"{V2}/memory.current": "0"}) == (64, 48)


@pytest.mark.parametrize("text", ["max", "-1", "", "\0\0", "9" * 400, "٣", "1e9", "0"])
def test_a_limit_that_is_none_is_none(text: str) -> None:
    assert memory({f"{V2}/memory.max": text, f"{V1}/memory.limit_in_bytes": text}) == (64, 48)


@pytest.mark.parametrize(
    "text", ["", "::", "0::", "garbage", "0::/a\n" * 1000, "x:y:z:\n\n", "0::/" + "a/" * 3000]
)
def test_a_list_of_control_groups_may_be_anything(text: str) -> None:
    assert memory({"/proc/self/cgroup": text, f"{V2}/memory.max": f"{GIB}"}) == (1, 1)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({f"{V2}/cpu.max": "max 100000\n"}, 8),
        ({f"{V2}/cpu.max": "250000 100000\n"}, 3),
        ({f"{V2}/cpu.max": "10000 100000\n"}, 1),
        ({f"{V2}/cpu.max": "9900000 100000\n"}, 8),
        ({f"{V2}/cpu.max": "100000 0\n"}, 8),
        ({f"{V2}/cpu.max": "rubbish"}, 8),
        ({"/proc/self/cgroup": "0::/a/b\n", f"{V2}/a/cpu.max": "200000 100000\n"}, 2),
        ({f"{V2}/cpu/cpu.cfs_quota_us": "-1\n", f"{V2}/cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({f"{V2}/cpu/cpu.cfs_quota_us": "400000\n", f"{V2}/cpu/cpu.cfs_period_us": "100000\n"}, 4),
    ],
)
def test_a_container_s_share_of_the_cores_counts(files: dict[str, object], cores: int) -> None:
    assert seen(files, cores=8).cores == cores


def test_environment_modules_are_listed() -> None:
    assert seen(environ={"LOADEDMODULES": "gcc/12.2::cuda/12.4:"}).modules == ("gcc/12.2", "cuda/12.4")


def test_this_machine_is_told() -> None:
    machine = probe(RealHost())
    assert (machine.system, machine.arch) == (os.uname().sysname, os.uname().machine)
    assert 0 < machine.memory_available_bytes <= machine.memory_total_bytes
    assert 1 <= machine.cores <= (os.cpu_count() or 1)
