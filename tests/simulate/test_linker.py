"""The linker's model on facts made by hand; `test_linker_against_ld` has the real one judge it."""

import pytest

from cudadoctor.facts import Libraries, LibraryFile, LibraryKind, LinkDirectory, LinkSearch
from cudadoctor.probes.compilers import _emulation, _folders_of, _weave
from cudadoctor.probes.libraries import describe, inventory
from cudadoctor.probes.linker_script import read_script
from cudadoctor.simulate.linker import Linker, Passed, Resolution, detours, expand, file_names
from cudadoctor.testing import FakeHost, Link, Special

GOOD = LibraryFile("shared", "x86_64", 64)
OTHER = LibraryFile("shared", "aarch64", 64)
GCC = LinkSearch(("{-L}", "{LIBRARY_PATH}/../lib", "/gcc", "{LIBRARY_PATH}", "/usr/lib"), "ld", "x86_64", 64)
CLANG = LinkSearch(("{-L}", "/gcc", "{LIBRARY_PATH}", "/usr/lib"), "ld", "x86_64", 64, single_pass=True)
NAMES = ("libx.so", "libx.a", "liby.so", "liby.a", "y.so", "libx.so.1")


def find(name: str = "x", names: tuple[str, ...] = NAMES, **folders: dict[str, LibraryFile]) -> Resolution:
    """Search the folders /a, /b ... in their order; what is not given is a folder without libraries."""
    places = {f"/{folder}": LinkDirectory(True, files) for folder, files in folders.items()}
    rest = {place: LinkDirectory(True) for place in (".", "/gcc", "/usr/lib")}
    libraries = Libraries(rest | places, names, {"/z/y.so": GOOD, "/z/other.so": OTHER})
    return Linker.of(GCC, list(places), None, libraries).find(name)


def script(*members: str, output_format: str = "") -> LibraryFile:
    return LibraryFile("script", members=members, output_format=output_format)


# --- which file ---------------------------------------------------------------------------------------------


def test_the_first_folder_that_has_the_library_wins() -> None:
    found = find(a={}, b={"libx.so": GOOD}, c={"libx.so": GOOD})
    assert (found.verdict, found.path, found.file) == ("found", "/b/libx.so", GOOD)


def test_a_shared_library_comes_before_an_archive_of_the_same_folder_only() -> None:
    archive = LibraryFile("archive", "x86_64", 64)
    assert find(a={"libx.a": archive, "libx.so": GOOD}).path == "/a/libx.so"
    assert find(a={"libx.a": archive}, b={"libx.so": GOOD}).path == "/a/libx.a"


def test_a_versioned_file_is_not_what_a_link_name_means() -> None:
    assert find(a={"libx.so.1": GOOD}).verdict == "missing"
    assert find(":libx.so.1", a={"libx.so.1": GOOD}).path == "/a/libx.so.1"


@pytest.mark.parametrize(
    ("file", "why"),
    [
        (LibraryFile("dangling", link="../gone", resolved="/gone"), "a link to /gone, which does not exist"),
        (LibraryFile("loop"), "a link that leads back to itself"),
        (LibraryFile("directory"), "a folder"),
        (LibraryFile("unreadable", reason="Permission denied"), "not readable (Permission denied)"),
        (OTHER, "for aarch64 (64 bit): skipping incompatible"),
        (LibraryFile("archive", "i386", 32), "for i386 (32 bit): skipping incompatible"),
        (LibraryFile("executable", "aarch64", 64), "for aarch64 (64 bit): skipping incompatible"),
        (script(output_format="elf32-i386"), "a linker script for elf32-i386"),
        (LibraryFile("text", output_format="elf32-i386"), "a linker script for elf32-i386"),
    ],
)
def test_ld_goes_past_what_it_cannot_open_or_what_is_for_another_machine(file: LibraryFile, why: str) -> None:
    found = find(a={"libx.so": file}, b={"libx.so": GOOD})
    assert (found.path, found.passed) == ("/b/libx.so", (Passed("/a/libx.so", why),))
    alone = find(a={"libx.so": file})
    assert (alone.verdict, alone.passed) == ("missing", (Passed("/a/libx.so", why),))


@pytest.mark.parametrize("kind", ["text", "unrecognised", "executable"])
def test_ld_stops_at_a_file_that_is_no_library(kind: LibraryKind) -> None:
    found = find(a={"libx.so": LibraryFile(kind)}, b={"libx.so": GOOD})
    assert (found.verdict, found.path) == ("fatal", "/a/libx.so")


def test_an_archive_without_an_index_stops_ld() -> None:
    found = find(a={"libx.a": LibraryFile("archive", "x86_64", 64, reason="no index")}, b={"libx.so": GOOD})
    assert (found.verdict, found.why) == ("fatal", "an archive with no index")


@pytest.mark.parametrize("kind", ["object", "empty", "archive"])
def test_an_object_and_an_empty_file_pass_for_a_library(kind: LibraryKind) -> None:
    assert find(a={"libx.so": LibraryFile(kind)}, b={"libx.so": GOOD}).path == "/a/libx.so"


def test_a_fifo_leaves_it_open() -> None:
    assert find(a={"libx.so": LibraryFile("special")}, b={"libx.so": GOOD}).verdict == "unknown"


def test_a_folder_that_was_not_looked_at_leaves_it_open() -> None:
    libraries = Libraries({"/a": LinkDirectory(True)}, NAMES)
    found = Linker.of(GCC, ["/a", "/b"], None, libraries).find("x")
    assert (found.verdict, found.path) == ("unknown", "/b")


def test_a_folder_before_it_that_has_the_library_settles_it_all_the_same() -> None:
    libraries = Libraries({"/a": LinkDirectory(True, {"libx.so": GOOD})}, NAMES)
    assert Linker.of(GCC, ["/a", "/b"], None, libraries).find("x").verdict == "found"


def test_a_name_that_was_not_looked_for_is_not_missing() -> None:
    assert find("other", a={}).verdict == "unknown"


def test_a_trailing_slash_makes_no_other_folder() -> None:
    libraries = Libraries({"/a": LinkDirectory(True, {"libx.so": GOOD})}, NAMES)
    assert Linker.of(GCC, ["/a/"], None, libraries).find("x").path == "/a/libx.so"


# --- linker scripts -----------------------------------------------------------------------------------------


def test_a_script_leads_to_its_members() -> None:
    found = find(a={"libx.so": script("-ly", "/z/y.so")}, b={"liby.so": GOOD})
    assert [member.path for member in found.members] == ["/b/liby.so", "/z/y.so"]
    assert found.ends == "found"


def test_a_bare_name_is_looked_for_beside_the_script_then_here_then_along_the_path() -> None:
    (beside,) = find(a={"libx.so": script("y.so"), "y.so": GOOD}, b={"y.so": GOOD}).members
    assert beside.path == "/a/y.so"
    (further,) = find(a={"libx.so": script("y.so")}, b={"y.so": GOOD}).members
    assert further.path == "/b/y.so"


def test_a_missing_member_makes_the_script_end_as_missing() -> None:
    found = find(a={"libx.so": script("/z/y.so", "/z/gone.so")}, b={"libx.so": GOOD})
    assert (found.verdict, found.ends) == ("found", "missing")
    assert [member.verdict for member in found.members] == ["found", "missing"]


def test_a_member_for_another_machine_cannot_be_found() -> None:
    (member,) = find(a={"libx.so": script("/z/other.so")}).members
    assert member.verdict == "missing"
    assert member.passed[0].path == "/z/other.so"


def test_a_script_that_leads_back_to_itself_is_fatal() -> None:
    assert find(a={"libx.so": script("-lx")}).ends == "fatal"
    assert find(a={"libx.so": script("-ly"), "liby.so": script("-lx")}).ends == "fatal"


def test_a_script_that_is_not_followed_is_unknown() -> None:
    assert find(a={"libx.so": LibraryFile("script", reason="SEARCH_DIR in it")}).verdict == "unknown"


@pytest.mark.parametrize(
    ("text", "members"),
    [
        (
            "/* GNU ld script */\nGROUP ( /lib/c.so.6 AS_NEEDED ( /lib/ld.so ) )",
            ("/lib/c.so.6", "/lib/ld.so"),
        ),
        ("INPUT(-lm -lc)", ("-lm", "-lc")),
        ("INPUT(-lm,-lc)", ("-lm,-lc",)),
        ("INPUT(-lm , -lc)", ("-lm", "-lc")),
        ('INPUT("a b.so")', ("a b.so",)),
        ("INPUT(x.so) GROUP(y.so)", ("x.so", "y.so")),
        (" \n# nothing\n", ()),
        ("age = 7;", ()),
    ],
)
def test_a_script_names_its_members(text: str, members: tuple[str, ...]) -> None:
    read = read_script(text)
    assert (read.valid, read.members, read.reason) == (True, members, "")


@pytest.mark.parametrize(
    "text",
    [
        "version https://git-lfs.github.com/spec/v1\n",
        "INPUT()",
        "INPUT(x.so",
        "age=7;",
        "libx.so.1",
        "<html>",
        "\0",
        "/* never",
    ],
)
def test_other_text_is_no_script(text: str) -> None:
    assert not read_script(text).valid


def test_a_format_is_seen_even_in_text_that_is_no_script() -> None:
    assert read_script("hello OUTPUT_FORMAT(elf32-i386) world").output_format == "elf32-i386"
    assert read_script("/* OUTPUT_FORMAT(elf32-i386) */").output_format == ""


# --- the order of the folders -------------------------------------------------------------------------------


def test_gcc_tries_all_entries_in_one_form_before_the_next() -> None:
    assert expand(GCC, ["/own"], "/p:/q/") == [
        "/own", "/p/../lib", "/q/../lib", "/gcc", "/p", "/q", "/usr/lib",
    ]  # fmt: skip


def test_without_library_path_its_forms_fall_away() -> None:
    assert expand(GCC, ["/own"], None) == ["/own", "/gcc", "/usr/lib"]


@pytest.mark.parametrize(
    ("library_path", "plain"),
    [("", ["."]), (":", [".", "."]), ("/p:", ["/p", "."]), ("/p::/q", ["/p", ".", "/q"])],
)
def test_an_empty_entry_is_the_current_folder(library_path: str, plain: list[str]) -> None:
    folders = expand(GCC, (), library_path)
    assert folders[folders.index("/gcc") + 1 : -1] == plain


def test_clang_takes_the_entries_as_they_are_and_an_empty_variable_as_none() -> None:
    assert expand(CLANG, ["/own"], "/p/::/gone/../q") == [
        "/own", "/gcc", "/p/", ".", "/gone/../q", "/usr/lib",
    ]  # fmt: skip
    assert expand(CLANG, ["/own"], "") == ["/own", "/gcc", "/usr/lib"]


def test_gcc_leaves_out_the_folders_that_every_linker_searches() -> None:
    assert expand(GCC, (), "/usr/lib:/lib/") == ["/usr/lib/../lib", "/lib/../lib", "/gcc", "/usr/lib"]


@pytest.mark.parametrize(
    ("entry", "spelled"),
    [
        ("/p/gone/../q", "/p/q"),
        ("/p/../q", "/p/../q"),
        ("gone/../q", "q"),
        ("./gone/../q", "./q"),
        ("/p/gone/.hidden/../q", "/p/q"),
        ("/p/gone/gone/../../q", "/p/q"),
        ("/p/../gone/../q", "/p/../gone/../q"),
        ("/.hidden/../q", "/.hidden/../q"),
    ],
)
def test_gcc_takes_a_step_back_out_where_the_folder_is_gone(entry: str, spelled: str) -> None:
    asked: list[str] = []

    def exists(folder: str) -> bool:
        asked.append(folder)
        return "gone" not in folder and "hidden" not in folder

    plain = LinkSearch(("{LIBRARY_PATH}",))
    assert expand(plain, (), entry, exists) == [spelled]
    assert set(asked) <= set(detours(entry))


def test_the_facts_say_whether_the_folder_is_gone() -> None:
    seen = {"/p/lib": LinkDirectory(True, {"libx.so": GOOD}), "/p/lib64/": LinkDirectory(False)}
    found = Linker.of(
        LinkSearch(("{LIBRARY_PATH}",), machine="x86_64"), (), "/p/lib64/../lib", Libraries(seen, NAMES)
    )
    assert found.find("x").path == "/p/lib/libx.so"


def test_a_name_stands_for_a_shared_library_or_an_archive() -> None:
    assert file_names("cudart") == ["libcudart.so", "libcudart.a"]
    assert file_names(":libcuda.so.1") == ["libcuda.so.1"]


# --- what the driver shows ----------------------------------------------------------------------------------


def test_the_forms_find_their_places_among_the_folders_that_gcc_shows() -> None:
    forms = ["{LIBRARY_PATH}/../lib", "/gcc", "/absent", "{LIBRARY_PATH}", "/last"]
    assert _weave(["/gcc", "/last"], forms) == forms
    assert _weave(["/spec", "/gcc", "/last"], forms) == ["/spec", *forms]
    assert _weave(["/gcc", "/last", "/spec"], forms) == [*forms, "/spec"]
    assert _weave(["/gcc", "/spec"], forms) == [*forms, "/spec"]


def test_folders_are_read_in_either_spelling() -> None:
    assert _folders_of(["ld", "-L/a", "-L", "/b", "-lx"]) == ["/a", "/b"]


@pytest.mark.parametrize(
    ("words", "triple", "machine"),
    [
        (["ld", "-m", "elf_x86_64"], "", ("x86_64", 64)),
        (["ld", "-melf_i386"], "", ("i386", 32)),
        (["ld", "-maarch64linux"], "", ("aarch64", 64)),
        (["ld", "-m", "elf32_x86_64"], "", ("x86_64", 32)),
        (["ld"], "riscv64-linux-gnu", ("riscv64", 64)),
        (["ld"], "i686-linux-gnu", ("i386", 32)),
    ],
)
def test_the_machine_is_the_emulations_or_the_compilers(
    words: list[str], triple: str, machine: tuple[str, int]
) -> None:
    assert _emulation(words, triple) == machine


# --- what stands in a folder --------------------------------------------------------------------------------


def test_what_stands_at_a_path_is_told_without_opening_what_is_no_file() -> None:
    host = FakeHost(
        {
            "/a/empty.so": b"",
            "/a/lfs.so": "version https://git-lfs.github.com/spec/v1\n",
            "/a/fifo.so": Special(),
            "/a/gone.so": Link("../nowhere.so"),
            "/a/loop.so": Link("loop.so"),
            "/a/folder.so/": b"",
            "/a/null.so": Link("/dev/null"),
            "/dev/null": Special(),
            "/a/hidden.so": PermissionError(13, "Permission denied"),
        }
    )
    names = ("empty", "lfs", "fifo", "gone", "loop", "folder", "null", "hidden")
    kinds = {name: describe(host, f"/a/{name}.so") for name in names}
    assert {name: file.kind for name, file in kinds.items() if file} == {
        "empty": "empty",
        "lfs": "text",
        "fifo": "special",
        "gone": "dangling",
        "loop": "loop",
        "folder": "directory",
        "null": "empty",
        "hidden": "unreadable",
    }
    assert describe(host, "/a/none.so") is None


def test_an_inventory_follows_scripts_to_names_folders_and_files() -> None:
    host = FakeHost(
        {
            "/a/libx.so": "INPUT(-ly /z/libz.so near.so)",
            "/b/liby.so": "INPUT(-lw)",
            "/z/libz.so": "INPUT(beside.so)",
            "/z/beside.so": b"",
            "/home/ada/near.so": b"",
        },
        cwd="/home/ada",
    )
    seen = inventory(host, ["/a", "/b"], file_names("x"))
    assert set(seen.names) >= {"libx.so", "liby.so", "libw.so", "near.so", "beside.so"}
    assert set(seen.directories) == {"/a", "/b", ".", "/z"}
    found = Linker.of(LinkSearch(("{-L}",)), ["/a", "/b"], None, seen).find("x")
    y, z, near = found.members
    assert (y.path, z.path, near.path) == ("/b/liby.so", "/z/libz.so", "./near.so")
    assert z.members[0].path == "/z/beside.so"
    assert (y.members[0].verdict, found.ends) == ("missing", "missing")
