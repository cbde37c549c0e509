"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.declare import CannotTell, Skip, check
from cudadoctor.facts import Card, Driver, Launch, Machine
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.knowledge import images
from cudadoctor.knowledge.drivers import OLDEST, SINCE, UNTIL, cuda_of, first_for
from cudadoctor.verdicts import driver_to_get
from cudadoctor.versions import numbers

_DOCKER_NAMES = {"x86_64": images.AMD64, "aarch64": images.ARM64, "arm64": images.ARM64}
_SPARK = "12.1"  #: GB10's compute capability; its processor is of ARM
#: The first vLLM whose Triton (3.6) has a ptxas that knows sm_121a: torch 2.10 came with it.
_TRITON_KNOWS_SPARK = (0, 17)
_NEWER = "vllm/vllm-openai:v0.20.0 or a later release (CUDA 13.0)"
_NVIDIAS = "nvcr.io/nvidia/vllm:25.09-py3 or later (CUDA 13.0)"
_LAST_OF_CUDA_12 = "vllm/vllm-openai:v0.19.1, the last release of CUDA 12 by default"
_REFUSES = "unsatisfied condition: cuda>="


@check
def image_unsuited(
    launch: Launch, machine: Machine, card: Card | None = None, driver: Driver | None = None
) -> Iterator[Finding]:
    """The container image was built for other GPUs, a newer driver, or another processor.

    ## What it means
    An image brings its own CUDA, torch and vLLM, with machine code for the GPUs that its CUDA knew: nothing
    before CUDA 12.8 has any for Blackwell (`no kernel image is available`), nothing of CUDA 13 any for Volta.
    On a GB10 (DGX Spark) images of CUDA 12 fail in CUTLASS (`Error Internal`) and in Triton (`Value 'sm_121a'
    is not defined`). An image of CUDA 13 needs a driver of 580 or newer. Of a newer CUDA than the driver's,
    though of the same major, the container runtime may refuse to start it: `unsatisfied condition:
    cuda>=12.9`. An image for amd64 does not run on a machine with an ARM processor.

    ## How to tell
    `docker run --rm --entrypoint python3 IMAGE -c "import torch; print(torch.version.cuda,
    torch.cuda.get_arch_list())"`

    ## What helps
    The image of another release, or of another CUDA; or a newer driver.
    """
    if launch.kind == "other":
        raise Skip("the command is no launch of vLLM")
    if not launch.image:
        raise Skip("the launch runs in no container image")
    architecture = _architecture(card, machine)
    image = images.known(launch.image, architecture)
    yield from _of_processor(launch, architecture, image)
    if image is None or not image.cuda:
        raise CannotTell(f"which CUDA {launch.image} brings, its name does not tell{_wanted(card)}")
    if card is not None and numbers(card.capability):
        yield from _of_gpu(launch, image, card)
    if driver is not None and _is_here(card):
        yield from _of_driver(launch, image, driver, machine, card)
    if card is None:
        raise CannotTell("card: no GPU is visible here, and none was named (--gpu, --gpu-memory)")


def _is_here(card: Card | None) -> bool:
    return card is not None and card.source == "NVML"


def _architecture(card: Card | None, machine: Machine) -> str:
    """Return the processor that the image has to be for, as docker calls it; "" where it is not known."""
    if card is not None and card.capability == _SPARK:
        return images.ARM64
    return _DOCKER_NAMES.get(machine.arch, "") if _is_here(card) else ""


def _wanted(card: Card | None) -> str:
    least = _least(card.capability) if card is not None and numbers(card.capability) else ""
    return f"; {card.name} needs CUDA {least} or newer" if card is not None and least else ""


def _least(capability: str) -> str:
    """Return the CUDA from which on there is code that a GPU runs; "" where any will do.

    Code for the first GPU of a generation runs on the others of it (12.0 on 12.1), but see GB10.
    """
    if capability == _SPARK:
        return "13.0"
    major = numbers(capability)[0]
    return SINCE.get(f"{major}.0", "") if major >= 10 else ""


def _of_processor(launch: Launch, architecture: str, image: images.Image | None) -> Iterator[Finding]:
    asked = launch.container.platform.partition("/")[2].partition("/")[0] if launch.container else ""
    built_for = (asked,) if asked else image.built_for if image is not None else ()
    if not architecture or not built_for or architecture in built_for:
        return
    said = f"platform: {launch.container.platform}" if launch.container and asked else launch.image
    source = f"{launch.image} is for" if not asked else "it asks for"
    evidence = (Evidence(launch.source, said), Evidence("the processor", architecture))
    remedy = f"platform linux/{architecture}" if asked else _NEWER
    yield Finding(
        f'{source} {built_for[0]}, and the machine is {architecture}: "exec format error", or no GPU',
        Severity.ERROR,
        evidence,
        (Remedy("show", {}, remedy),),
    )


# --- the GPU ------------------------------------------------------------------------------------------------


def _of_gpu(launch: Launch, image: images.Image, card: Card) -> Iterator[Finding]:
    name = card.name or "the GPU"
    major = image.cuda.partition(".")[0]
    oldest = UNTIL.get(major, "")
    if oldest and numbers(card.capability) < numbers(oldest):
        says = f"CUDA {_cuda(image)} has no code for {name} ({card.capability}): {oldest} is the oldest GPU"
        yield _finding(launch, image, card, says, Severity.ERROR, (_LAST_OF_CUDA_12,))
        return
    least = _least(card.capability)
    if not least or numbers(image.newest_cuda) >= numbers(least):
        return
    if card.capability == _SPARK:
        yield _of_spark(launch, image, card)
        return
    if image.base:
        says = f"nvcc of CUDA {image.cuda} compiles nothing for {name} ({card.capability}): it takes {least}"
        wanted = launch.image.replace(f":{image.cuda}", ":13.0", 1).partition("-")[0]
        yield _finding(
            launch, image, card, says, Severity.WARNING, (f"{wanted} or another of CUDA {least} on",)
        )
        return
    says = f"CUDA {_cuda(image)} of the image has no code for {name} ({card.capability}): it takes {least}"
    yield _finding(launch, image, card, says, Severity.ERROR, (_NEWER,))


def _of_spark(launch: Launch, image: images.Image, card: Card) -> Finding:
    """Return what CUDA 12 means on a GB10: it fails, or, from Triton 3.6 on, has been seen to."""
    sure = not image.base and (0,) < numbers(image.vllm) < _TRITON_KNOWS_SPARK
    fails = "fails on" if sure else "is not the one that is built for"
    says = f"CUDA {_cuda(image)} of the image {fails} {card.name or 'the GPU'} ({_SPARK}): it takes CUDA 13"
    return _finding(
        launch, image, card, says, Severity.ERROR if sure else Severity.WARNING, (_NVIDIAS, _NEWER)
    )


def _cuda(image: images.Image) -> str:
    return image.cuda if image.cuda == image.newest_cuda else f"{image.cuda} or {image.newest_cuda}"


def _finding(
    launch: Launch, image: images.Image, card: Card, says: str, severity: Severity, others: tuple[str, ...]
) -> Finding:
    evidence = (
        Evidence(launch.source, f"image {launch.image}"),
        Evidence(image.source, f"CUDA {_cuda(image)}"),
        Evidence(card.source, f"{card.name}, of compute capability {card.capability}"),
    )
    first, *rest = (Remedy("show", {}, other) for other in others)
    return Finding(says, severity, evidence, (Remedy("show", {}, first.summary, tuple(rest)),))


# --- the driver ---------------------------------------------------------------------------------------------


def _of_driver(
    launch: Launch, image: images.Image, driver: Driver, machine: Machine, card: Card | None
) -> Iterator[Finding]:
    reach = driver.nvml.cuda or cuda_of(driver.version)
    if not driver.version or not numbers(reach) or card is None:
        return
    geforce = "GeForce" in card.name
    major = image.cuda.partition(".")[0]
    evidence = (
        Evidence(launch.source, f"image {launch.image}"),
        Evidence(image.source, f"CUDA {_cuda(image)}"),
        Evidence(driver.module_source or "NVML", f"the driver is {driver.version}, of CUDA {reach}"),
    )
    newer = driver_to_get(first_for(image.cuda) or OLDEST.get(major, ""), machine)
    if numbers(image.cuda)[:1] > numbers(reach)[:1]:
        says = f"the driver {driver.version} (CUDA {reach}) is too old for the image's CUDA {_cuda(image)}"
        if not geforce:
            says += ", unless its cuda-compat steps in"
        severity = Severity.ERROR if geforce else Severity.WARNING
        yield Finding(says, severity, evidence, (newer, *_of_older_cuda(image)))
    elif geforce and image.asks_driver and numbers(image.cuda) > numbers(reach):
        says = f'docker may refuse to start it: "{_REFUSES}{image.cuda}", and the driver is of CUDA {reach}'
        lets = Remedy("show", {}, "-e NVIDIA_DISABLE_REQUIRE=1   # one CUDA 12 driver runs every CUDA 12")
        yield Finding(says, Severity.WARNING, evidence, (newer, lets) if major == "12" else (newer,))


def _of_older_cuda(image: images.Image) -> tuple[Remedy, ...]:
    """Return the image of the same release for CUDA 12, which 0.20.0 to 0.29.0 have, or an older release."""
    if image.base:
        return ()
    if (0, 20) <= numbers(image.vllm) < (0, 30) and image.asks_driver:
        return (Remedy("show", {}, f"vllm/vllm-openai:v{image.vllm}-cu129, the same of CUDA 12.9"),)
    return (Remedy("show", {}, _LAST_OF_CUDA_12),)
