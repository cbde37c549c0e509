"""MAX_JOBS is a number."""

import pytest

from cudadoctor.actions import Export

from .ask import plan, refused


def test_exports_the_number() -> None:
    assert plan("max-jobs", {"MAX_JOBS": "3"}) == [Export("MAX_JOBS", "3")]


@pytest.mark.parametrize("value", ["", "0", "-1", "two", "4; rm -rf /", "٣", "99999999", "3\n", " 3"])
def test_refuses_what_is_no_number_of_jobs(value: str) -> None:
    refused("max-jobs", {"MAX_JOBS": value})


def test_refuses_a_remedy_without_one() -> None:
    refused("max-jobs", {})
