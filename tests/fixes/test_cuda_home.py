"""CUDA_HOME is exported as the remedy says."""

import pytest

from cudadoctor.actions import Export

from .ask import HOSTILE_PATHS, plan, refused


def test_exports_the_toolkit() -> None:
    assert plan("cuda-home", {"CUDA_HOME": "/opt/cuda 13"}) == [Export("CUDA_HOME", "/opt/cuda 13")]


@pytest.mark.parametrize("value", HOSTILE_PATHS)
def test_refuses_what_is_no_path(value: str) -> None:
    refused("cuda-home", {"CUDA_HOME": value})


def test_refuses_a_remedy_that_names_none() -> None:
    assert refused("cuda-home", {"CUDA_PATH": "/opt/cuda"}) == "cuda-home: no CUDA_HOME is given"
