from cudadoctor.facts import Driver, GpuProcess
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import environ, one, severities, shown
from .gpus import GIB, NOTHING, driver, gpu, host


def outcome(seen: Driver, container: str = "", **variables: str) -> Outcome:
    return judge(
        "gpu-memory-held", driver=seen, environ=environ(**variables), machine=host(container=container)
    )  # fmt: skip


def test_reports_who_holds_memory_and_how_much() -> None:
    held = (GpuProcess(4242, 20 * GIB), GpuProcess(77, None))
    finding = one(outcome(driver(gpu(used_gib=20.5, processes=held))), Severity.NOTE)
    assert "20.5 GiB of 24.0 GiB are in use on GPU 0" in finding.summary
    assert "process 4242: holds 20.0 GiB" in shown(finding) and "process 77: holds an unknown" in shown(
        finding
    )
    assert "--gpu-memory-utilization 0.12" in shown(finding)


def test_offers_no_share_where_next_to_nothing_is_left() -> None:
    assert not one(outcome(driver(gpu(used_gib=23.5)))).remedies


def test_names_the_five_largest_of_many() -> None:
    held = tuple(GpuProcess(pid, pid * GIB // 100) for pid in range(1, 20))
    said = shown(one(outcome(driver(gpu(used_gib=10, processes=held)))))
    assert "process 19" in said and "process 14" not in said and "and 14 more" in said


def test_says_that_a_container_cannot_see_who_it_is() -> None:
    assert "cannot" not in shown(one(outcome(driver(gpu(used_gib=10)))))
    assert "nobody that can be seen from this container" in shown(
        one(outcome(driver(gpu(used_gib=10)), "docker"))
    )


def test_memory_that_is_not_reported_is_the_systems() -> None:
    held = (GpuProcess(4242, 60 * GIB),)
    finding = one(outcome(driver(gpu("NVIDIA GB10", "12.1", None, processes=held))), Severity.NOTE)
    assert "60.0 GiB" in finding.summary and "100.0 GiB of 200.0 GiB are free" in shown(finding)
    assert "0.0 GiB" not in shown(finding).replace("60.0 GiB", "").replace("00.0 GiB", "")


def test_is_silent_when_healthy() -> None:
    assert isinstance(outcome(driver()), Passed)
    assert isinstance(outcome(driver(gpu("NVIDIA GB10", "12.1", None))), Passed)


def test_is_silent_about_a_gpu_that_the_launch_does_not_see() -> None:
    both = driver(gpu(), gpu(used_gib=20))
    assert isinstance(outcome(both, CUDA_VISIBLE_DEVICES="0"), Passed)


def test_where_the_launch_may_see_either_gpu_only_what_holds_for_both_is_said() -> None:
    held, free = gpu("NVIDIA GeForce GTX 1080 Ti", "6.1", 11, used_gib=10), gpu()
    assert isinstance(outcome(driver(free, held), CUDA_VISIBLE_DEVICES="0"), Passed)
    ended = outcome(driver(gpu(used_gib=20), held), CUDA_VISIBLE_DEVICES="0")
    assert severities(ended) == ["note", "note"]


def test_is_silent_when_absent() -> None:
    assert isinstance(outcome(NOTHING), Skipped)
    assert isinstance(outcome(driver(), CUDA_VISIBLE_DEVICES="-1"), Skipped)
