import pytest

from cudadoctor.facts import Environ, Gpu, Variable
from cudadoctor.simulate.devices import visible
from cudadoctor.simulate.kernels import covers, translates

SMALL, LARGE = Gpu(0, "NVIDIA RTX A2000", "8.6", "GPU-0a2b3c4d"), Gpu(1, "NVIDIA H100", "9.0", "GPU-1a2b3c4d")


def indices(value: str | None, *gpus: Gpu, **variables: str) -> list[int]:
    named = variables if value is None else {"CUDA_VISIBLE_DEVICES": value, **variables}
    held = {name: Variable(text, "environment") for name, text in named.items()}
    return [gpu.index for gpu in visible(gpus or (SMALL, LARGE), Environ(held, "")).gpus]


def test_without_the_variable_every_gpu_is_seen() -> None:
    assert indices(None) == [0, 1]


def test_a_choice_by_number_is_one_only_in_the_order_of_the_bus() -> None:
    assert indices("1", CUDA_DEVICE_ORDER="PCI_BUS_ID") == [1]
    assert indices("1") == [0, 1], "by CUDA's own order it may be either"
    assert indices("1", SMALL, Gpu(1, SMALL.name, SMALL.capability)) == [1], "equal ones are not mistaken"


def test_what_holds_for_the_launch_holds_for_every_gpu_that_it_may_see() -> None:
    held = Environ({"CUDA_VISIBLE_DEVICES": Variable("0", "environment")}, "")
    either = visible((SMALL, LARGE), held)
    assert not either.certain and not either.holds([SMALL], either.gpus)
    assert either.holds([SMALL, LARGE], either.gpus) and not either.holds([], ())
    both = visible((SMALL, LARGE), Environ({}, ""))
    assert both.certain and both.holds([SMALL], both.gpus) and not both.holds([], both.gpus)


@pytest.mark.parametrize(
    ("value", "seen"),
    [("GPU-1a2b3c4d-9999", [1]), ("GPU-", []), ("GPU-1a2b,GPU-0a2b", [1, 0]), ("MIG-77", [])],
)
def test_a_uuid_or_its_beginning_names_one_gpu(value: str, seen: list[int]) -> None:
    assert indices(value) == seen


def test_two_mig_devices_of_one_gpu_are_one_gpu() -> None:
    divided = Gpu(0, "H100", "9.0", "GPU-0a2b3c4d", mig=True, mig_devices=("MIG-11111111", "MIG-22222222"))
    assert indices("MIG-11111111-a,MIG-22222222-b", divided) == [0]


@pytest.mark.parametrize(
    ("code", "capability", "runs"),
    [("8.0", "8.0", True), ("8.0", "8.6", True), ("8.0", "8.9", True), ("8.6", "8.0", False),
     ("8.6", "8.9", True), ("12.0", "12.1", True), ("9.0", "10.0", False), ("9.0a", "9.0", True),
     ("10.0a", "10.3", False), ("12.0", "10.0", False), ("8.7", "8.9", False)],
)  # fmt: skip
def test_machine_code_runs_within_its_major(code: str, capability: str, runs: bool) -> None:
    assert covers(code, capability) is runs


def test_ptx_is_translated_for_what_is_newer() -> None:
    assert translates("8.0", "12.0") and not translates("9.0", "8.6")
    assert translates("9.0a", "9.0") and not translates("9.0a", "10.0")


def test_a_number_of_five_thousand_digits_is_no_gpu() -> None:
    assert indices("0," + "9" * 5000, CUDA_DEVICE_ORDER="PCI_BUS_ID") == [0]
