"""Container images by name: which CUDA they bring, which vLLM, and for which processors they are built.

What `latest` or an image of one's own brings, its name does not tell.
"""

from __future__ import annotations

import re

from msgspec import Struct

from cudadoctor.versions import numbers

_PIPELINE = ".buildkite/release-pipeline.yaml in vLLM's source distributions, read 2026-11-21"
_NOTES = "https://docs.nvidia.com/deeplearning/frameworks/vllm-release-notes/, read 2026-11-21"
AMD64, ARM64 = "amd64", "arm64"


class Image(Struct, frozen=True, omit_defaults=True):
    """What the name of an image tells. Between two releases that were looked at, CUDA is one of two."""

    cuda: str  #: the release, or the older of the two that it may be: "12.8"; "" where it is not known
    newest_cuda: str  #: the same, or the newer of the two
    source: str
    vllm: str = ""  #: "" where the name does not tell
    base: bool = False  #: CUDA alone: what is installed into it may be for another
    asks_driver: bool = False  #: made from nvidia/cuda, whose NVIDIA_REQUIRE_CUDA names a driver
    built_for: tuple[str, ...] = (AMD64, ARM64)


#: Release, CUDA of vllm/vllm-openai:vRELEASE for amd64 and for arm64: "" where none is built, None where that
#: was not found. 0.9.0: what the container runtime asks of the driver, vllm-project/vllm issue 18813; 0.19.1:
#: the release notes of 0.20.0, which changed to CUDA 13.0.
_OPENAI: tuple[tuple[str, str | None, str | None], ...] = (
    ("0.6.6", "12.1", ""),
    ("0.8.5", "12.4", ""),
    ("0.9.0", "12.8", None),
    ("0.10.2", "12.8", "12.9"),
    ("0.14.0", "12.9", "12.9"),
    ("0.18.0", "12.9", "12.9"),
    ("0.19.1", "12.9", "12.9"),
    ("0.20.0", "13.0", "13.0"),
    ("0.25.0", "13.0", "13.0"),
    ("0.29.0", "13.0", "13.0"),
    ("0.33.0", "13.0", "13.0"),
)
#: Release of nvcr.io/nvidia/vllm, its CUDA, and its vLLM. 25.09: as a DGX Spark ran it, 2025-11; the vLLM of
#: 25.12: vllm-project/vllm issue 31424.
_NVIDIA: tuple[tuple[str, str, str], ...] = (
    ("25.09", "13.0", "0.10.1.1"),
    ("25.10", "13.0", "0.10.2"),
    ("26.01", "13.1", "0.11.1"),
    ("26.03", "13.2", "0.17.1"),
    ("26.05", "13.2", "0.20.1"),
    ("26.10", "13.4", "0.31.0"),
)
_NVIDIA_VLLM = {**{release: vllm for release, _, vllm in _NVIDIA}, "25.12": "0.11.1"}

_OPENAI_TAG = re.compile(
    r"v?(\d+\.\d+\.\d+(?:\.post\d+)?)(?:-(x86_64|aarch64))?(?:-cu(\d{2})(\d))?(?:-ubuntu\d+)?"
)
_MOVING_TAG = re.compile(r"(?:latest|nightly)(?:-\w+)??-cu(\d{2})(\d)|cu(\d{2})(\d)-nightly(?:-\w+)?")
_MONTH = re.compile(r"(\d\d\.\d\d)(?:-.*)?")
_CUDA_TAG = re.compile(r"(\d+\.\d+)(?:\.\d+)?(?:-.*)?")
_ARCHITECTURES = {"x86_64": AMD64, "aarch64": ARM64}
_COLUMNS = {AMD64: 1, ARM64: 2}


def split(image: str) -> tuple[str, str]:
    """Return repository and tag of "host:5000/name:tag@sha256:..."; either may be ""."""
    name = image.partition("@")[0]
    folder, slash, last = name.rpartition("/")
    base, _, tag = last.partition(":")
    return f"{folder}{slash}{base}", tag


def known(image: str, architecture: str = "") -> Image | None:
    """Return what an image brings on an architecture (amd64, arm64, "" for either); None: it is not known."""
    repository, tag = split(image)
    if f"/{repository}".endswith("/vllm/vllm-openai"):
        return _of_openai(tag, architecture)
    if repository == "nvcr.io/nvidia/vllm":
        return _of_nvidia(tag)
    plain = repository.removeprefix("docker.io/").removeprefix("nvcr.io/")
    if plain == "nvidia/cuda" and (match := _CUDA_TAG.fullmatch(tag)):
        return Image(match[1], match[1], "the image's tag", base=True, asks_driver=True)
    return None


def vllm_version(image: str) -> str:
    """Return the vLLM that an image brings, as far as its name tells; "" for any other."""
    found = known(image)
    return found.vllm if found is not None else ""


def _of_openai(tag: str, architecture: str) -> Image | None:
    if match := _MOVING_TAG.fullmatch(tag):
        cuda = f"{match[1] or match[3]}.{match[2] or match[4]}"
        return Image(cuda, cuda, "the image's tag", asks_driver=True)
    match = _OPENAI_TAG.fullmatch(tag)
    if match is None:
        return None
    release, only = match[1], _ARCHITECTURES.get(match[2] or "", "")
    rows = _around(release, [row[0] for row in _OPENAI])
    if rows is None:
        return Image("", "", "", release)
    ends = [_OPENAI[row] for row in rows]
    built_for = (only,) if only else (AMD64,) if all(row[2] == "" for row in ends) else (AMD64, ARM64)
    if match[3]:
        cuda = f"{match[3]}.{match[4]}"
        return Image(cuda, cuda, "the image's tag", release, asks_driver=True, built_for=built_for)
    held = _cudas(rows, [_COLUMNS[each] for each in built_for if architecture in ("", each)], architecture)
    oldest, newest = min(held, key=numbers), max(held, key=numbers)
    return Image(oldest, newest, _PIPELINE, release, asks_driver=True, built_for=built_for)


def _cudas(rows: tuple[int, int], columns: list[int], architecture: str) -> list[str]:
    """Return which CUDA it may be; one that was not found leaves all open where it is of the architecture."""
    held = [_OPENAI[row][column] or "" for row in rows for column in columns]
    known = [each for each in held if each]
    return known if known and (known == held or not architecture) else [""]


def _of_nvidia(tag: str) -> Image | None:
    match = _MONTH.fullmatch(tag)
    rows = _around(match[1], [row[0] for row in _NVIDIA]) if match else None
    if match is None or rows is None:
        return None
    lower, upper = _NVIDIA[rows[0]], _NVIDIA[rows[1]]
    return Image(lower[1], upper[1], _NOTES, _NVIDIA_VLLM.get(match[1], ""))


def _around(release: str, releases: list[str]) -> tuple[int, int] | None:
    """Return the rows of the releases at or around this one; None for what is older or newer than all."""
    at = numbers(release)
    below = [row for row, each in enumerate(releases) if numbers(each) <= at]
    above = [row for row, each in enumerate(releases) if numbers(each) >= at]
    if below and not above and at[:2] == numbers(releases[-1])[:2]:
        return below[-1], below[-1]  # a patch of the newest
    return (below[-1], above[0]) if below and above else None
