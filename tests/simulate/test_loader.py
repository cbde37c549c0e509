"""The loader's rules on machines made by hand. tests/real/test_loader.py asks the real loader."""

from __future__ import annotations

from typing import Any

import pytest

from cudadoctor.facts import CachedLibrary, DynamicLoader, Environ, Extension, SharedObject, SharedObjects
from cudadoctor.simulate.imports import imports
from cudadoctor.simulate.loader import Problem, Process, Seen

LOADER = DynamicLoader("/lib64/ld.so", "x86_64", 64, ("/lib", "/usr/lib"), "lib64", "haswell")
LEVELS = ("glibc-hwcaps/x86-64-v3", "glibc-hwcaps/x86-64-v2")


def library(soname: str = "", *needed: str, **more: Any) -> SharedObject:
    return SharedObject(soname, needed, **{"machine": "x86_64", "bits": 64, **more})


class World:
    """Files by path, each with the program /app/bin/main that needs libx.so."""

    def __init__(self, files: dict[str, SharedObject], main: SharedObject | None = None, **more: Any) -> None:
        everything = {"/app/bin/main": main or library("", "libx.so"), **files}
        loader = more.pop("loader", LOADER)
        self.objects = SharedObjects(loader, "/app/bin/main", files=everything, **more)
        self.problems: list[Problem] = []

    def started(
        self, library_path: str = "", preload: tuple[str, ...] = (), cwd: str = "/home/ada"
    ) -> Process:
        assert self.objects.loader is not None
        process = Process(Seen(self.objects), self.objects.loader, library_path, cwd)
        self.problems = process.start("/app/bin/main", preload)
        return process

    def paths(self, library_path: str = "", **more: Any) -> list[str]:
        return [one.path for one in self.started(library_path, **more).loaded[1:]]


A, B, C = "/a/libx.so", "/b/libx.so", "/usr/lib/libx.so"


def test_rpath_comes_before_ld_library_path_and_runpath_behind_it() -> None:
    files = {A: library(), B: library()}
    assert World(files, library("", "libx.so", rpath="/a")).paths("/b") == [A]
    assert World(files, library("", "libx.so", runpath="/a")).paths("/b") == [B]
    assert World(files, library("", "libx.so", runpath="/a")).paths() == [A]


def test_a_runpath_switches_rpath_off_even_where_it_is_empty() -> None:
    world = World({A: library(), C: library()}, library("", "libx.so", rpath="/a", runpath=""))
    assert world.paths() == [C]


def test_rpath_is_inherited_and_runpath_is_not() -> None:
    files = {"/a/liby.so": library("liby.so", "libx.so"), A: library(), C: library()}
    assert World(files, library("", "liby.so", rpath="/a")).paths() == ["/a/liby.so", A]
    assert World(files, library("", "liby.so", runpath="/a")).paths() == ["/a/liby.so", C]


def test_a_library_with_a_runpath_inherits_no_rpath() -> None:
    files = {"/a/liby.so": library("liby.so", "libx.so", runpath="/b"), A: library(), B: library()}
    assert World(files, library("", "liby.so", rpath="/a")).paths() == ["/a/liby.so", B]


def test_an_extension_inherits_the_rpath_of_the_program() -> None:
    """So a conda environment's lib comes first for what its Python opens."""
    world = World({"/site/_C.so": library("", "libx.so"), A: library(), B: library()}, library(rpath="/a"))
    process = world.started("/b")
    assert process.open("/site/_C.so") == []
    assert process.named("libx.so") is not None and process.loaded[-1].path == A


@pytest.mark.parametrize("value", ["/b", ":/b".lstrip(":"), "/no;/b", "/b/", "/no:/b:"])
def test_ld_library_path_is_split_at_colons_and_semicolons(value: str) -> None:
    assert World({B: library(), C: library()}).paths(value) == ["/b/libx.so"]


@pytest.mark.parametrize("value", [":", "/no:", ":/no", "/no;;/none"])
def test_an_empty_entry_is_the_current_folder(value: str) -> None:
    world = World(
        {"libx.so": library("", "liby.so", rpath="$ORIGIN/own"), "/home/ada/own/liby.so": library()}
    )
    assert world.paths(value) == ["libx.so", "/home/ada/own/liby.so"]


def test_an_empty_variable_has_no_entry() -> None:
    assert World({"libx.so": library()}).paths("") == []


def test_tokens_are_replaced() -> None:
    files = {"/app/lib64/libx.so": library()}
    for text in ("$ORIGIN/../lib64", "${ORIGIN}/../$LIB", "/app/${LIB}"):
        world = World(
            files, library("", "libx.so", rpath=text), paths={"/app/bin/../lib64/libx.so": next(iter(files))}
        )
        assert world.started().loaded[1].file == "/app/lib64/libx.so"
    assert World(files, library("", "libx.so", rpath="$ORIGINAL")).paths() == []


def test_an_entry_with_an_unknown_platform_is_left_out() -> None:
    loader = DynamicLoader("/lib64/ld.so", "x86_64", 64, ("/lib",), "lib64", "")
    world = World({"libx.so": library(), "/p//libx.so": library()}, loader=loader)
    assert world.paths("/p/$PLATFORM") == []


def test_the_best_subfolder_comes_first() -> None:
    loader = DynamicLoader("/lib64/ld.so", "x86_64", 64, ("/lib",), "lib64", subfolders=LEVELS)
    files = {f"/b/{level}/libx.so": library() for level in LEVELS}
    world = World({**files, B: library()}, loader=loader, subfolders={"/b": LEVELS})
    assert world.paths("/b") == ["/b/glibc-hwcaps/x86-64-v3/libx.so"]


def test_the_cache_comes_before_the_default_folders() -> None:
    cached = {"libx.so": (CachedLibrary(A),)}
    assert World({A: library(), C: library()}, cached=cached).paths() == [A]
    assert World({C: library()}, cached=cached).paths() == [C]


def test_an_entry_of_the_cache_for_this_cpu_comes_first() -> None:
    loader = DynamicLoader("/lib64/ld.so", "x86_64", 64, ("/lib",), "lib64", subfolders=LEVELS)
    entries = (CachedLibrary("/v4.so", "x86-64-v4"), CachedLibrary(A, "x86-64-v2"), CachedLibrary(B))
    files = {A: library(), B: library(), "/v4.so": library()}
    assert World(files, cached={"libx.so": entries}, loader=loader).paths() == [A]
    assert World(files, cached={"libx.so": entries}).paths() == [B]


def test_nodeflib_leaves_out_the_default_folders_and_what_the_cache_has_of_them() -> None:
    main = library("", "libx.so", no_default_folders=True)
    assert World({C: library()}, main, cached={"libx.so": (CachedLibrary(C),)}).paths() == []
    assert World({A: library()}, main, cached={"libx.so": (CachedLibrary(A),)}).paths() == [A]


def test_what_is_loaded_already_satisfies_every_later_need_by_its_soname() -> None:
    files = {"/b/first.so": library("libx.so"), A: library()}
    process = World(files, library(rpath="/a")).started()
    process.open("/b/first.so")
    extension = World({**files, "/site/_C.so": library("", "libx.so")}, library(rpath="/a"))
    again = extension.started()
    again.open("/b/first.so")
    assert again.open("/site/_C.so") == []
    assert [one.path for one in again.loaded[1:]] == ["/b/first.so", "/site/_C.so"]


def test_one_file_under_two_names_is_loaded_once() -> None:
    main = library("", "libx.so", "libz.so", rpath="/a")
    world = World({A: library("other.so")}, main, paths={"/a/libz.so": A})
    assert world.paths() == [A]


def test_goes_past_another_machine_s_file_and_stops_at_a_damaged_one() -> None:
    past = {A: library(bits=32, machine="i386", problem="file too short"), C: library()}
    assert World(past, library("", "libx.so", rpath="/a")).paths() == [C]
    world = World(
        {A: SharedObject(problem="file too short"), C: library()}, library("", "libx.so", rpath="/a")
    )
    assert world.paths() == []
    assert [(one.path, one.reason) for one in world.problems] == [(A, "file too short")]


def test_a_program_is_no_library() -> None:
    world = World({A: library(executable=True)}, library("", "libx.so", rpath="/a"))
    assert world.paths() == [] and "executable" in world.problems[0].reason


def test_a_path_that_cannot_be_opened_ends_its_list_alone() -> None:
    """As a link that leads to itself does."""
    world = World({B: library(), C: library()}, paths={A: ""})
    assert world.paths("/a:/b") == [C]


def test_what_is_preloaded_comes_first() -> None:
    world = World({A: library(), "/p/libp.so": library("libx.so")}, library("", "libx.so", rpath="/a"))
    assert world.paths(preload=("/p/libp.so", "/gone.so")) == ["/p/libp.so"]
    assert world.problems == []


def test_libraries_come_in_the_order_of_needs_before_what_those_need() -> None:
    files = {
        "/a/l1.so": library("l1.so", "l3.so"),
        "/a/l2.so": library("l2.so"),
        "/a/l3.so": library("l3.so"),
    }
    assert World(files, library("", "l1.so", "l2.so", rpath="/a")).paths() == list(files)


# --- imports ------------------------------------------------------------------------------------------------


def environ() -> Environ:
    return Environ({}, "the current variables", (), "/home/ada")


def test_torch_s_own_table_of_libraries_helps_out_where_its_first_library_fails() -> None:
    files = {
        "/app/bin/main": library(),
        "/s/global.so": library("global.so", "libcudart.so.12"),
        "/s/nvidia/libcudart.so.12": library("libcudart.so.12"),
        "/s/_C.so": library("", "libcudart.so.12"),
    }
    objects = SharedObjects(
        LOADER,
        "/app/bin/main",
        ("/s/global.so",),
        ("/s/nvidia/libcudart.so.12",),
        (Extension("/s/_C.so", "torch"),),
        files,
    )
    (torch,) = imports(objects, environ(), "")
    assert torch.problems == []
    assert [one.path for one in torch.process.loaded[1:]] == [
        "/s/nvidia/libcudart.so.12", "/s/global.so", "/s/_C.so",
    ]  # fmt: skip


def test_torch_preloads_nothing_where_no_cuda_runtime_came_with_its_first_library() -> None:
    files = {"/app/bin/main": library(), "/s/global.so": library(), "/s/nvjitlink.so": library()}
    objects = SharedObjects(LOADER, "/app/bin/main", ("/s/global.so", "/s/nvjitlink.so"), files=files)
    objects_with = SharedObjects(
        LOADER,
        "/app/bin/main",
        ("/s/global.so", "/s/nvjitlink.so"),
        (),
        (Extension("/s/global.so", "torch"),),
        files,
    )
    assert imports(objects, environ(), "") == []
    (torch,) = imports(objects_with, environ(), "")
    assert [one.path for one in torch.process.loaded[1:]] == ["/s/global.so"]
