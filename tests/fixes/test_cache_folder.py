"""A cache moves by its variable, and to a folder."""

import pytest

from cudadoctor.actions import Export
from cudadoctor.simulate.storage import MOVED

from .ask import HOSTILE_PATHS, plan, refused


def test_exports_each_variable() -> None:
    values = {"VLLM_CACHE_ROOT": "/opt/env/var/cache/vllm", "HF_HUB_CACHE": "/big/models"}
    assert plan("cache-folder", values) == [Export(name, value) for name, value in values.items()]


@pytest.mark.parametrize("name", MOVED)
def test_takes_every_variable_that_a_finding_may_name(name: str) -> None:
    assert plan("cache-folder", {name: "/opt/cache"}) == [Export(name, "/opt/cache")]


def test_unsets_tmpdir() -> None:
    assert plan("cache-folder", {"TMPDIR": ""}) == [Export("TMPDIR", "")]


@pytest.mark.parametrize("path", HOSTILE_PATHS)
def test_refuses_what_is_no_folder(path: str) -> None:
    refused("cache-folder", {"TRITON_CACHE_DIR": path})


@pytest.mark.parametrize("name", ["PATH", "LD_PRELOAD", "HF_ENDPOINT", "VLLM_CACHE", ""])
def test_refuses_any_other_variable(name: str) -> None:
    refused("cache-folder", {name: "/opt/cache"})


def test_refuses_a_remedy_without_one() -> None:
    refused("cache-folder", {})
