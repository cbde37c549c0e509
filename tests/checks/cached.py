"""What just-in-time builds leave behind, made by hand: one operator, and the section it is in."""

from __future__ import annotations

from cudadoctor.facts import CacheFolder, Caches, ConfiguredOp, Lock, Target

from .build import PREFIX, SITE

OPS = "/home/ada/.cache/flashinfer/0.5.3/86/cached_ops"
EXTENSIONS = "/home/ada/.cache/torch_extensions/py312_cu128"
LDFLAGS = ("-shared", "-L$cuda_home/lib64", "-L$cuda_home/lib64/stubs", "-lcudart", "-lcuda")


def op(
    name: str = "silu_and_mul",
    cuda_home: str = "/usr/local/cuda",
    *,
    cxx: str = "c++",
    nvcc: str = "$cuda_home/bin/nvcc",
    ccbin: tuple[str, ...] = (),
    flags: tuple[str, ...] = (),
    ldflags: tuple[str, ...] = (),
    real: str = "",
) -> ConfiguredOp:
    """Return an operator as FlashInfer sets it up; `flags` are those of C++ and of CUDA behind its own."""
    cuda = (*(("-ccbin", *ccbin) if ccbin else ()), "$common_cflags", "-O3", *flags)
    return ConfiguredOp(
        f"{OPS}/{name}",
        name,
        cuda_home,
        cxx,
        nvcc,
        ("-fPIC", "-O3", *flags),
        cuda,
        (*LDFLAGS, *ldflags),
        real,
    )


def caches(*ops: ConfiguredOp, locks: tuple[Lock, ...] = (), rewrites: bool = False) -> Caches:
    """Return the caches of one user, with these operators set up and not built."""
    folders = (
        CacheFolder("flashinfer", OPS, "the default"),
        CacheFolder("torch-extensions", EXTENSIONS, "the default"),
    )
    return Caches(ops, rewrites, folders, locks)


def lock(name: str, held: bool | None, doubt: str = "") -> Lock:
    """Return the baton of a torch extension."""
    return Lock(f"{EXTENSIONS}/{name}/lock", "baton", held, doubt)


def target(active: bool = True) -> Target:
    """Return the environment of the builders."""
    return Target(
        PREFIX, "venv", f"{PREFIX}/bin/python3", "3.12.4", "/usr", (SITE,), "", "VIRTUAL_ENV", active
    )
