import pytest

from cudadoctor.facts import Driver, Facts, Gpu, Nvml, PciGpu, Unknown
from cudadoctor.render.common import heads
from cudadoctor.report import Report, Tool

GIB = 1 << 30
CARD = Gpu(0, "NVIDIA GeForce RTX 3090", "8.6", memory_total_bytes=24 * GIB)
AT_WORK = Nvml("answered", driver="550.54.14", cuda="12.4")


def lines(driver: Driver | Unknown) -> list[tuple[str, ...]]:
    facts = Facts(driver=driver)
    report = Report(Tool("cudadoctor", "0"), "2026-11-21T09:00:00Z", facts.target, facts)
    return [head.parts for head in heads(report) if head.label == "GPU"]


@pytest.mark.parametrize(
    ("driver", "parts"),
    [
        (
            Driver(gpus=(CARD,), nvml=AT_WORK),
            ("NVIDIA GeForce RTX 3090 (8.6, 24.0 GiB)", "driver 550.54.14 (CUDA 12.4)"),
        ),
        (
            Driver(gpus=(CARD, CARD, Gpu(2, "NVIDIA GB10", "12.1")), module="580.95.05"),
            (
                "2 x NVIDIA GeForce RTX 3090 (8.6, 24.0 GiB)",
                "NVIDIA GB10 (12.1, memory not reported)",
                "driver 580.95.05",
            ),
        ),
        (
            Driver(pci=(PciGpu("0000:01:00.0", "0x2204"),)),
            ("none that the driver shows", "no driver at work"),
        ),
        (Driver(gpus=(Gpu(0, problem="NVML_ERROR_GPU_IS_LOST"),)), ("unknown", "no driver at work")),
        (Unknown("did not end in time"), ("unknown: did not end in time",)),
    ],
)
def test_the_head_names_gpus_and_driver(driver: Driver | Unknown, parts: tuple[str, ...]) -> None:
    assert lines(driver) == [parts]


def test_a_machine_without_a_gpu_has_no_such_line() -> None:
    assert lines(Driver()) == [] and lines(Unknown("not collected", expected=True)) == []
