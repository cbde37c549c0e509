"""The numbers in a version."""

import pytest

from cudadoctor.knowledge.drivers import cuda_of
from cudadoctor.probes.dlpack import exports_fp8
from cudadoctor.simulate.kernels import covers, translates
from cudadoctor.versions import numbers, series

LONG = "9" * 5000


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2.9.0+cu128", (2, 9, 0)), ("550.54.14", (550, 54, 14)), ("0.6.11.post1", (0, 6, 11, 1)),
        ("9.0a", (9, 0)), ("python3.11", (3, 11)), ("abc", ()), ("", ()), ("550.\u00b2", (550,)),
    ],
)  # fmt: skip
def test_they_come_in_their_order_without_the_local_label(text: str, found: tuple[int, ...]) -> None:
    assert numbers(text) == found


def test_a_version_of_a_million_digits_or_parts_is_read_as_far_as_it_tells() -> None:
    assert numbers(LONG)[0] > 10**17 and numbers(f"{LONG}.2")[1] == 2
    assert len(numbers("1." * 100_000)) < 100


def test_major_and_minor_are_a_series() -> None:
    assert [series(text) for text in ("12.8.93", "2.10.0a0+git", "13", "abc")] == ["12.8", "2.10", "13", ""]


@pytest.mark.parametrize("text", [LONG, f"2.{LONG}", "550.\u00b2", "abc", ""])
def test_no_version_is_too_odd_for_a_comparison(text: str) -> None:
    cuda_of(text), exports_fp8(text), covers("8.6", text), covers(text, "8.6"), translates(text, "9.0")
