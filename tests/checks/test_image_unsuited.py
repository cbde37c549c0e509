from __future__ import annotations

import pytest
from msgspec import structs

from cudadoctor.facts import Card, Container, Driver, Launch, Unknown
from cudadoctor.findings import Severity
from cudadoctor.knowledge.images import known, split, vllm_version
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped
from cudadoctor.testing import judge

from . import gpus
from .build import one, shown
from .launched import GIB, launch

OPENAI = "vllm/vllm-openai"
SPARK = Card("gb10", int(121.7 * GIB), "12.1", unified=True, source="--gpu")


def named(capability: str, name: str = "rtx-5090") -> Card:
    return Card(name, 24 * GIB, capability, source="--gpu")


def here(name: str, capability: str = "8.6") -> Card:
    return Card(name, 24 * GIB, capability, source="NVML")


def contained(image: str, platform: str = "") -> Launch:
    container = Container("docker", image, platform=platform)
    return structs.replace(launch(), container=container, image=image)


def look(
    image: str,
    card: Card | Unknown,
    platform: str = "",
    driver: Driver | None = None,
    arch: str = "x86_64",
) -> Outcome:
    machine = structs.replace(gpus.host(), arch=arch)
    return judge(
        "image-unsuited", launch=contained(image, platform), card=card, machine=machine,
        driver=driver or gpus.driver(),
    )  # fmt: skip


@pytest.mark.parametrize("tag", ["v0.10.2", "v0.11.0", "v0.12.0", "v0.14.0"])
def test_cuda_12_fails_on_a_gb10(tag: str) -> None:
    finding = one(look(f"{OPENAI}:{tag}", SPARK), Severity.ERROR)
    assert finding.summary == "CUDA 12.9 of the image fails on gb10 (12.1): it takes CUDA 13"
    assert finding.remedies[0].summary.startswith("nvcr.io/nvidia/vllm:25.09-py3")


def test_with_a_newer_triton_cuda_12_is_only_not_what_is_built_for_a_gb10() -> None:
    one(look(f"{OPENAI}:v0.18.0", SPARK), Severity.WARNING)


@pytest.mark.parametrize(
    "image", ["nvcr.io/nvidia/vllm:25.09-py3", f"{OPENAI}:v0.20.0", f"{OPENAI}:v0.14.0-cu130"]
)
def test_is_silent_on_a_gb10_with_cuda_13(image: str) -> None:
    assert isinstance(look(image, SPARK), Passed)


def test_an_image_for_amd64_alone_is_none_for_a_gb10() -> None:
    finding = one(look(f"{OPENAI}:v0.8.5", SPARK), Severity.ERROR)
    assert finding.summary.startswith(f"{OPENAI}:v0.8.5 is for amd64, and the machine is arm64")


def test_a_platform_that_is_asked_for_has_to_be_the_machines() -> None:
    finding = one(look(f"{OPENAI}:v0.20.0", SPARK, platform="linux/amd64"), Severity.ERROR)
    assert finding.remedies[0].summary == "platform linux/arm64"
    gb10 = here("NVIDIA GB10", "12.1")
    one(
        look(f"{OPENAI}:v0.20.0-x86_64", gb10, arch="aarch64", driver=gpus.driver(cuda="13.0")),
        Severity.ERROR,
    )


def test_nothing_is_known_of_the_processor_of_a_machine_that_is_only_planned() -> None:
    assert isinstance(look(f"{OPENAI}:v0.20.0", named("12.0"), platform="linux/arm64"), Passed)


@pytest.mark.parametrize("capability", ["10.0", "12.0"])
def test_images_before_cuda_12_8_have_no_code_for_blackwell(capability: str) -> None:
    finding = one(look(f"{OPENAI}:v0.8.5", named(capability)), Severity.ERROR)
    assert "no code for rtx-5090" in finding.summary and "it takes 12.8" in finding.summary
    assert "release-pipeline.yaml" in shown(finding)


def test_images_of_cuda_13_have_no_code_for_volta() -> None:
    finding = one(look(f"{OPENAI}:v0.20.1", named("7.0", "v100-32")), Severity.ERROR)
    assert "7.5 is the oldest GPU" in finding.summary


def test_what_is_built_on_an_older_cuda_may_bring_its_own() -> None:
    finding = one(look("nvidia/cuda:12.4.1-devel-ubuntu22.04", named("12.0")), Severity.WARNING)
    assert finding.summary.startswith("nvcc of CUDA 12.4 compiles nothing for rtx-5090")


@pytest.mark.parametrize("image", [f"{OPENAI}:v0.10.2", f"{OPENAI}:v0.9.1", f"{OPENAI}:v0.33.0"])
def test_is_silent_when_the_image_knows_the_gpu(image: str) -> None:
    assert isinstance(look(image, named("12.0")), Passed)


# --- drivers


def test_cuda_13_needs_a_driver_of_its_own() -> None:
    finding = one(look(f"{OPENAI}:v0.20.0", here("NVIDIA GeForce RTX 3090")), Severity.ERROR)
    assert "the driver 550.54.14 (CUDA 12.4) is too old for the image's CUDA 13.0" in finding.summary
    assert "580.65.06 or newer" in finding.remedies[0].summary
    assert finding.remedies[1].summary.startswith("vllm/vllm-openai:v0.20.0-cu129")


def test_a_data_centre_gpu_may_have_forward_compatibility() -> None:
    finding = one(look(f"{OPENAI}:v0.33.0", here("NVIDIA A100-SXM4-80GB", "8.0")), Severity.WARNING)
    assert finding.summary.endswith("unless its cuda-compat steps in")
    assert finding.remedies[1].summary.startswith("vllm/vllm-openai:v0.19.1")


def test_a_container_of_a_newer_cuda_12_may_be_refused_on_a_geforce() -> None:
    finding = one(look(f"{OPENAI}:v0.14.0", here("NVIDIA GeForce RTX 3090")), Severity.WARNING)
    assert '"unsatisfied condition: cuda>=12.9"' in finding.summary
    assert "NVIDIA_DISABLE_REQUIRE=1" in finding.remedies[1].summary
    assert isinstance(look(f"{OPENAI}:v0.14.0", here("NVIDIA A100-SXM4-80GB", "8.0")), Passed)


def test_is_silent_when_the_driver_is_new_enough() -> None:
    newer = gpus.driver(version="580.65.06", cuda="13.0")
    assert isinstance(look(f"{OPENAI}:v0.20.0", here("NVIDIA GeForce RTX 3090"), driver=newer), Passed)


def test_the_driver_of_this_machine_is_not_that_of_a_planned_one() -> None:
    assert isinstance(look(f"{OPENAI}:v0.20.0", named("8.6", "rtx-3090")), Passed)


# --- what is not known


@pytest.mark.parametrize(
    "image", [f"{OPENAI}:latest", OPENAI, "my/vllm:1", f"{OPENAI}:v0.99.0", f"{OPENAI}@sha256:0a"]
)
def test_cannot_tell_of_an_image_whose_name_does_not_tell(image: str) -> None:
    outcome = look(image, SPARK)
    assert isinstance(outcome, Inconclusive)
    assert outcome.reason.endswith("its name does not tell; gb10 needs CUDA 13.0 or newer")


def test_cannot_tell_without_a_gpu() -> None:
    assert isinstance(look(f"{OPENAI}:v0.20.0", Unknown("no GPU is visible here")), Inconclusive)


def test_is_silent_without_an_image() -> None:
    outcome = judge("image-unsuited", launch=launch(), card=SPARK, machine=gpus.host(), driver=gpus.driver())
    assert isinstance(outcome, Skipped)
    other = structs.replace(contained("my/image:1"), kind="other")
    assert isinstance(judge("image-unsuited", launch=other, card=SPARK, machine=gpus.host()), Skipped)


@pytest.mark.parametrize(
    ("image", "cuda", "vllm"),
    [
        (f"{OPENAI}:v0.12.0", ("12.8", "12.9"), "0.12.0"),
        (f"docker.io/{OPENAI}:v0.10.2-x86_64", ("12.8", "12.8"), "0.10.2"),
        (f"{OPENAI}:v0.11.2-aarch64", ("12.9", "12.9"), "0.11.2"),
        (f"localhost:5000/{OPENAI}:v0.20.1-cu129-ubuntu2404@sha256:0a", ("12.9", "12.9"), "0.20.1"),
        (f"{OPENAI}:v0.8.5.post1", ("12.4", "12.8"), "0.8.5.post1"),
        (f"{OPENAI}:latest-cu130", ("13.0", "13.0"), ""),
        (f"{OPENAI}:cu130-nightly-aarch64", ("13.0", "13.0"), ""),
        ("nvcr.io/nvidia/vllm:25.09-py3", ("13.0", "13.0"), "0.10.1.1"),
        ("nvcr.io/nvidia/vllm:25.11-py3", ("13.0", "13.1"), ""),
        ("nvcr.io/nvidia/vllm:25.12-py3", ("13.0", "13.1"), "0.11.1"),
        ("nvidia/cuda:13.0.2-base-ubuntu24.04", ("13.0", "13.0"), ""),
    ],
)
def test_what_the_names_of_images_tell(image: str, cuda: tuple[str, str], vllm: str) -> None:
    found = known(image, "" if "-aarch64" in image else "amd64")
    assert found is not None and (found.cuda, found.newest_cuda) == cuda
    assert vllm_version(image) == vllm


@pytest.mark.parametrize(
    "image", [OPENAI, f"{OPENAI}:latest", f"{OPENAI}-rocm:v0.20.0", "nvcr.io/nvidia/vllm:24.01"]
)
def test_what_is_not_in_a_name_is_not_guessed(image: str) -> None:
    assert known(image) is None and vllm_version(image) == ""


def test_a_release_is_known_though_its_cuda_is_not() -> None:
    assert vllm_version(f"{OPENAI}:v0.5.0") == "0.5.0"


def test_a_registrys_port_is_no_tag() -> None:
    assert split("localhost:5000/a/b") == ("localhost:5000/a/b", "")
    assert split("localhost:5000/a/b:c@sha256:0") == ("localhost:5000/a/b", "c")
