import os
import re
import shutil
import struct
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from cudadoctor.facts import DeviceCode, Distribution, Driver, Gpu, Kernels, Packages, TorchBuild
from cudadoctor.host import RealHost
from cudadoctor.probes.kernels import _containers, probe, read
from cudadoctor.testing import FakeHost

PTX, SASS = 1, 2
ROOT = "/site/torch"
FILE = f"{ROOT}/lib/libtorch_cuda.so"
LISTED = ((SASS, 75, False), (SASS, 80, False), (SASS, 90, True), (PTX, 80, False))


def entry(kind: int, architecture: int, specific: bool) -> bytes:
    flags = 0x11 | (1 << 20 if specific else 0)
    head = struct.pack("<HHIQIIHHIIIQ", kind, 0x101, 64, 24, 0, 0, 7, 1, architecture, 0, 0, flags)
    return head.ljust(64, b"\0") + b"payload." * 3


def container(*entries: tuple[int, int, bool]) -> bytes:
    body = b"".join(entry(*each) for each in entries)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def elf(section: bytes, name: bytes = b".nv_fatbin") -> bytes:
    """Return an ELF file with one section, and the table of names."""
    names = b"\0" + name + b"\0.shstrtab\0"
    sections = bytes(64)
    for at, offset, content in ((1, 64, section), (2 + len(name), 64 + len(section), names)):
        sections += struct.pack("<IIQQQQIIQQ", at, 1, 0, 0, offset, len(content), 0, 0, 8, 0)
    table = 64 + len(section) + len(names)
    head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head += struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 0, table, 0, 64, 0, 0, 64, 3, 2)
    return head + section + names + sections


def found(data: object, *capabilities: str) -> DeviceCode:
    return read(FakeHost({FILE: data}), "torch", FILE, set(capabilities or ("1.0",)))


def test_reads_machine_code_and_ptx() -> None:
    code = found(elf(container(*LISTED) + container((SASS, 120, False))))
    assert code.sass == ("7.5", "8.0", "9.0a", "12.0") and code.ptx == ("8.0",) and not code.problem


def test_reads_no_further_than_the_gpus_need() -> None:
    code = found(elf(container(*LISTED) + container((SASS, 120, False))), "8.6")
    assert "12.0" not in code.sass


def test_reads_a_bounded_number_of_entries() -> None:
    many = container((SASS, 75, False)) * 5000
    reads: list[int] = []

    class Counting(FakeHost):
        def read_at(self, path: str, offset: int, count_bytes: int) -> bytes:
            reads.append(count_bytes)
            return super().read_at(path, offset, count_bytes)

    assert read(Counting({FILE: elf(many)}), "torch", FILE, {"1.0"}).sass == ("7.5",)
    assert len(reads) < 700 and sum(reads) < 100_000


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\x7fELF", b"\x7fELF\x02\x01" + bytes(58), elf(b"nonsense" * 20), elf(container(*LISTED))[:300],
        elf(container(*LISTED), b".text"), elf(struct.pack("<IHHQ", 0xBA55ED50, 1, 16, 1 << 62)),
        elf(container((SASS, 4096, False))), elf(struct.pack("<IHHQ", 0xBA55ED50, 1, 16, 64) + bytes(64)),
        OSError(13, "Permission denied"),
    ],
)  # fmt: skip
def test_a_damaged_library_is_told_and_read_no_further(data: object) -> None:
    code = found(data)
    assert code.problem and code.sass == ()


def test_nothing_is_read_without_a_gpu() -> None:
    packages = Packages((), TorchBuild("2.10.0", ROOT, "12.8"))
    assert probe(FakeHost({FILE: OSError(5, "read")}), packages, Driver()) == Kernels()


def test_looks_into_torch_and_into_vllms_extension() -> None:
    vllm = "/site/vllm"
    names = ("_C.abi3.so", "_C_stable_libtorch.abi3.so", "_moe_C.abi3.so", "_C.py")
    files = {FILE: elf(container(*LISTED)), **{f"{vllm}/{name}": elf(container(*LISTED)) for name in names}}
    packages = Packages((Distribution("vllm", "0.12.0", "/site"),), TorchBuild("2.10.0", ROOT, "12.8"))
    seen = probe(FakeHost(files), packages, Driver(gpus=(Gpu(0, capability="8.6"),)))
    assert [code.path.rpartition("/")[2] for code in seen.files] == ["libtorch_cuda.so", *names[:2]]
    assert all(code.sass for code in seen.files)


def test_a_torch_without_cuda_has_none() -> None:
    packages = Packages((), TorchBuild("2.10.0", ROOT, ""))
    assert probe(FakeHost(), packages, Driver(gpus=(Gpu(0, capability="8.6"),))) == Kernels()


@pytest.mark.stack
def test_agrees_with_cuobjdump_and_with_torch() -> None:
    prefix = Path(os.environ.get("CUDADOCTOR_STACK", "/nowhere"))
    library = next(prefix.glob("lib/python3*/site-packages/torch/lib/libtorch_cuda.so"))
    cuobjdump = shutil.which("cuobjdump") or next(
        prefix.glob("lib/python3*/site-packages/triton/**/cuobjdump")
    )
    listed = subprocess.run(
        [str(cuobjdump), "-lelf", str(library)], capture_output=True, text=True, check=True
    )
    theirs = set(re.findall(r"\.sm_(\d+a?)\.cubin", listed.stdout))
    ours = Counter(code for held in _containers(RealHost(), str(library)) for _, code in held)
    assert {code.replace(".", "") for code in ours} <= theirs
    ran = subprocess.run(
        [str(prefix / "bin/python"), "-c", "import torch; print(torch._C._cuda_getArchFlags())"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    told = set(ran.stdout.replace("sm_", "").split())
    assert told <= {code.replace(".", "") for code in ours}
