"""What exports come to, how they add up, and what is read back from activation files."""

import io
import json
from collections.abc import Mapping
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cudadoctor.actions import Export
from cudadoctor.exports import (
    LISTS,
    SHELLS,
    Edited,
    NoActivation,
    Unwritable,
    absolute,
    commands,
    files,
    merged,
    outcome,
    persisted,
    relative,
    toward,
)

LIST = "LIBRARY_PATH"
PREFIX = "/envs/a"
ENTRY = st.sampled_from(["", "/", "/a", "/a/", "/a//", "/b", "/c d", "/envs/a/lib", "{prefix}/lib"])
ENTRIES = st.lists(ENTRY, max_size=6)
TEXT = st.lists(st.sampled_from(["{", "}", "{prefix}", "prefix}", PREFIX, "/", " ", "-L", "=", "a", "'"]))


def after(export: Export, value: str | None) -> str | None:
    return outcome([export], {} if value is None else {export.name: value}, PREFIX)[export.name]


# --- what a variable is afterwards --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "/x"),
        ("", "/x"),
        (":", "/x"),
        ("/mine", "/mine:/x"),
        (":/mine::/b:", "/mine:/b:/x"),
        ("/x", "/x"),
        ("/x/:/mine", "/x/:/mine"),
        ("/mine:/mine", "/mine:/mine:/x"),
        ("/bad:/mine:/bad/", "/mine:/x"),
        ("/bad", "/x"),
        ("/", "/:/x"),
    ],
)
def test_a_list_keeps_what_the_user_has_and_gets_nothing_twice(value: str | None, expected: str) -> None:
    assert after(Export(LIST, add=("/x",), remove=("/bad",)), value) == expected


@pytest.mark.parametrize("value", [None, "", ":", "/bad", "/bad/::/bad"])
def test_a_list_without_entries_is_not_set(value: str | None) -> None:
    assert after(Export(LIST, remove=("/bad",)), value) is None


def test_the_loaders_list_is_split_at_semicolons_too() -> None:
    assert after(Export("LD_LIBRARY_PATH", remove=("/stubs",)), "/a;/stubs;;/b:/c") == "/a:/b:/c"
    assert after(Export(LIST, remove=("/b",)), "/a;/b") == "/a;/b"


def test_a_whole_value_replaces_and_an_empty_one_unsets() -> None:
    assert after(Export("CUDA_HOME", "{prefix}/cuda"), "/old") == "/envs/a/cuda"
    assert after(Export("CC"), "gcc") is None
    assert after(Export("CC"), None) is None


def test_exports_of_one_name_come_after_each_other() -> None:
    exports = [Export(LIST, "/a"), Export(LIST, add=("/b",)), Export(LIST, remove=("/a",))]
    assert outcome(exports, {LIST: "/mine", "CC": "gcc"}, PREFIX) == {LIST: "/b"}


@given(ENTRIES, ENTRIES, ENTRIES)
def test_nothing_of_the_users_is_dropped(old: list[str], add: list[str], remove: list[str]) -> None:
    export = Export(LIST, add=tuple(add), remove=(*remove, ""))
    gone = {entry.rstrip("/") or "/" for entry in absolute(export, PREFIX).remove if entry}
    kept = [entry for entry in old if entry and (entry.rstrip("/") or "/") not in gone]
    found = (after(export, ":".join(old)) or "").split(":")
    assert found[: len(kept)] == kept or not kept
    new = found[len(kept) :] if kept else [entry for entry in found if entry]
    assert len({entry.rstrip("/") for entry in new}) == len(new) and "" not in new
    if gone.isdisjoint(entry.rstrip("/") or "/" for entry in absolute(export, PREFIX).add):
        assert after(export, ":".join(found)) == (":".join(found) or None)


# --- the change that leads somewhere ------------------------------------------------------------------------


def test_a_change_adds_what_is_new_and_takes_out_what_is_gone() -> None:
    assert toward(LIST, ["/a", "", "/b"], "/b:/c") == Export(LIST, add=("/c",), remove=("/a", ""))
    assert toward(LIST, ["/a", ""], "/a") == Export(LIST, remove=("",))
    assert toward(LIST, [], "/a:/a/") == Export(LIST, add=("/a",))
    assert toward("LD_LIBRARY_PATH", ["/stubs"], "") == Export("LD_LIBRARY_PATH", remove=("/stubs",))


@pytest.mark.parametrize("entries", [[], ["/a"], ["/a", "/a/"]])
def test_no_change_is_not_taken_for_a_variable_to_unset(entries: list[str]) -> None:
    export = toward(LIST, entries, ":".join(entries))
    assert export.is_list
    assert after(export, "/mine") == "/mine"


PLAIN = st.lists(ENTRY.filter(lambda entry: "{" not in entry), max_size=6)


@given(PLAIN, PLAIN)
def test_a_change_leads_to_the_entries_that_were_wanted(old: list[str], wanted: list[str]) -> None:
    found = after(toward(LIST, old, ":".join(wanted)), ":".join(old)) or ""
    same = {entry.rstrip("/") or "/" for entry in wanted if entry}
    assert {entry.rstrip("/") or "/" for entry in found.split(":") if entry} == same


def test_the_lists_are_those_of_compilers_and_the_loader() -> None:
    assert {"LIBRARY_PATH", "LD_LIBRARY_PATH", "CPATH", "PATH"} <= LISTS


# --- how they add up ----------------------------------------------------------------------------------------


def test_merging_keeps_one_export_a_name_and_the_later_word_counts() -> None:
    assert merged([Export("CC", "gcc")], [Export("CC")]) == (Export("CC"),)
    assert merged([Export(LIST, add=("/a", "/b"))], [Export(LIST, add=("/c", "/b"), remove=("/a/",))]) == (
        Export(LIST, add=("/b", "/c"), remove=("/a/",)),
    )
    assert merged([Export(LIST, remove=("/a", "/b"))], [Export(LIST, add=("/a",))]) == (
        Export(LIST, add=("/a",), remove=("/b",)),
    )
    assert merged([Export(LIST, "/a:/b")], [Export(LIST, add=("/c",), remove=("/a",))]) == (
        Export(LIST, "/b:/c"),
    )
    assert merged([Export(LIST, add=("/a",))], [Export(LIST, "/whole")]) == (Export(LIST, "/whole"),)


CHANGES = st.builds(
    lambda add, remove, value: Export(LIST, add=tuple(add), remove=tuple(remove)) if value is None else value,
    st.lists(st.sampled_from(["/a", "/b/", "/c"]), max_size=3),
    st.lists(st.sampled_from(["", "/a", "/b", "/d"]), max_size=3),
    st.sampled_from([None, None, None, Export(LIST), Export(LIST, "/a:/d")]),
)


@given(st.lists(CHANGES, max_size=4), ENTRIES)
def test_merged_exports_come_to_the_same_entries(changes: list[Export], old: list[str]) -> None:
    (both,) = merged(changes, [Export(LIST, remove=("",))])
    one_by_one = outcome([*changes, Export(LIST, remove=("",))], {LIST: ":".join(old)}, PREFIX)[LIST]
    at_once = after(both, ":".join(old))
    assert _bare(one_by_one) == _bare(at_once)


def _bare(value: str | None) -> set[str]:
    return {entry.rstrip("/") for entry in (value or "").split(":")}


# --- the environment's own folder ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/envs/a", "{prefix}"),
        ("/envs/a/lib", "{prefix}/lib"),
        ("/envs/ab/lib", "/envs/ab/lib"),
        ("/mnt/envs/a/lib", "/mnt/envs/a/lib"),
        ("-O2 -L/envs/a/lib -isystem /envs/a/include", "-O2 -L{prefix}/lib -isystem {prefix}/include"),
        ("-Wl,-rpath,/envs/a/lib --sysroot=/envs/a", "-Wl,-rpath,{prefix}/lib --sysroot={prefix}"),
        ("-L/mnt/envs/a -L/envs/a.old", "-L/mnt/envs/a -L/envs/a.old"),
        ("/envs/a:/envs/a/lib", "{prefix}:{prefix}/lib"),
        ("/x/{prefix}/y", "/x/{{prefix}/y"),
        ("/x/{{prefix}/y {}", "/x/{{{prefix}/y {}"),
    ],
)
def test_the_environments_folder_is_named_where_it_is_meant(text: str, expected: str) -> None:
    export = relative(Export("CFLAGS", text), PREFIX)
    assert export.value == expected
    assert absolute(export, PREFIX).value == text


@given(TEXT, st.sampled_from([PREFIX, "/envs/a/", "/e{prefix}", "/my env", "/"]))
def test_no_text_is_damaged_on_the_way_there_and_back(pieces: list[str], prefix: str) -> None:
    text = "".join(pieces).replace(PREFIX, prefix.rstrip("/"))
    export = Export(LIST, text, (text, "/b"), (text, ""))
    assert absolute(relative(export, prefix), prefix) == export


# --- activation files ---------------------------------------------------------------------------------------

SCRIPT = b"deactivate () {\n    :\n}\ndeactivate nondestructive\nVIRTUAL_ENV=/v\n"
FISH = b"function deactivate -d 'x'\nend\ndeactivate nondestructive\nset -gx VIRTUAL_ENV /v\n"
CSH = b"alias deactivate 'unsetenv VIRTUAL_ENV'\ndeactivate nondestructive\n"
VENV = {"/v/bin/activate": SCRIPT, "/v/bin/activate.fish": FISH, "/v/bin/activate.csh": CSH}
NOTHING: dict[str, bytes] = {}
EXPORTS = (Export("CUDA_HOME", "/v/cuda"), Export(LIST, add=("/v/lib", "/o"), remove=("/bad",)))


def applied(kind: str, tree: Mapping[str, bytes], exports: tuple[Export, ...] = EXPORTS) -> dict[str, bytes]:
    return {**tree, **files(kind, "/v", exports, tree.get).files}


def test_a_conda_environment_gets_files_of_its_own() -> None:
    tree = applied("conda", {})
    assert set(tree) == {
        f"/v/etc/conda/{folder}/cudadoctor.{shell}"
        for folder in ("activate.d", "deactivate.d")
        for shell in ("sh", "fish", "csh")
    }
    stated = b'# cudadoctor: [{"kind":"export","name":"CUDA_HOME","value":"{prefix}/cuda"},'
    assert tree["/v/etc/conda/activate.d/cudadoctor.sh"].startswith(stated)
    assert persisted("conda", "/v", tree.get) == EXPORTS
    assert files("conda", "/v", EXPORTS, tree.get).files == {}


def test_without_exports_the_files_of_conda_do_nothing() -> None:
    assert files("conda", "/v", (), NOTHING.get).files == {}
    tree = applied("conda", applied("conda", {}), ())
    assert persisted("conda", "/v", tree.get) == ()
    assert all(
        line.startswith("#") for line in tree["/v/etc/conda/activate.d/cudadoctor.sh"].decode().splitlines()
    )


@pytest.mark.parametrize("kind", ["venv", "virtualenv", "uv"])
def test_blocks_are_replaced_and_taken_out_again(kind: str) -> None:
    tree = applied(kind, VENV)
    assert all(tree[path] != VENV[path] and b"`cudadoctor undo`" in tree[path] for path in VENV)
    assert persisted(kind, "/v", tree.get) == EXPORTS
    other = applied(kind, tree, (Export("CC", "gcc"),))
    assert other == applied(kind, VENV, (Export("CC", "gcc"),))
    assert applied(kind, other, ()) == VENV
    assert persisted(kind, "/v", VENV.get) == ()


def test_a_script_whose_last_line_has_no_end_is_given_back_as_it_was() -> None:
    before = {path: content.rstrip(b"\n") for path, content in VENV.items()}
    tree = applied("venv", before)
    assert persisted("venv", "/v", tree.get) == EXPORTS
    assert files("venv", "/v", EXPORTS, tree.get).files == {}
    assert applied("venv", applied("venv", tree, (Export("CC", "gcc"),)), ()) == before


def test_what_the_user_has_put_behind_our_block_stays_there() -> None:
    tree = {path: content + b"export MINE=1\n" for path, content in applied("venv", VENV).items()}
    assert persisted("venv", "/v", tree.get) == EXPORTS
    assert all(
        content.endswith(b"<<<\nexport MINE=1\n") for content in applied("venv", tree, EXPORTS[:1]).values()
    )
    assert applied("venv", tree, ()) == {path: content + b"export MINE=1\n" for path, content in VENV.items()}


@pytest.mark.parametrize("kind", ["conda", "venv"])
def test_an_edited_file_is_named(kind: str) -> None:
    tree = applied(kind, VENV if kind == "venv" else {})
    for path, content in tree.items():
        edited = {**tree, path: content.replace(b"_cudadoctor_now", b"x", 1).replace(b"printenv", b"env", 1)}
        assert edited != tree
        assert persisted(kind, "/v", edited.get) == Edited(path)


@pytest.mark.parametrize(
    "line", [b"# cudadoctor: [", b"# cudadoctor: 3", b"# nothing", b"# cudadoctor: " + b"[" * 9999]
)
def test_a_file_that_is_not_ours_is_named(line: bytes) -> None:
    path = "/v/etc/conda/activate.d/cudadoctor.sh"
    assert persisted("conda", "/v", {path: line + b"\n"}.get) == Edited(path)
    script = SCRIPT + b"# >>> cudadoctor >>>\n" + line + b"\n# <<< cudadoctor <<<\n"
    assert persisted("venv", "/v", {"/v/bin/activate": script}.get) == Edited("/v/bin/activate")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (None, "/v/bin/activate: there is no such script"),
        (b"# my own\nVIRTUAL_ENV=/v\n", "/v/bin/activate: it has no `deactivate` as venv"),
        (SCRIPT.replace(b"VIRTUAL_ENV", b"MINE"), "/v/bin/activate: it does not set VIRTUAL_ENV"),
        (SCRIPT + b"# >>> cudadoctor >>>\n", "/v/bin/activate: the marks of our block are damaged"),
        (SCRIPT * 2, "/v/bin/activate: it has no `deactivate` as venv"),
    ],
)
def test_a_script_of_an_unknown_form_is_not_touched(script: bytes | None, reason: str) -> None:
    tree = NOTHING if script is None else {"/v/bin/activate": script}
    with pytest.raises(NoActivation, match=reason):
        files("venv", "/v", EXPORTS, tree.get)


def test_another_shells_script_of_an_unknown_form_is_left_out() -> None:
    tree = {**VENV, "/v/bin/activate.fish": b"# my own\n"}
    del tree["/v/bin/activate.csh"]
    written = files("venv", "/v", EXPORTS, tree.get)
    assert set(written.files) == {"/v/bin/activate"}
    (left,) = written.left_out
    assert left.startswith("/v/bin/activate.fish: it has no `deactivate`")


@pytest.mark.parametrize("kind", ["system", "pyenv"])
def test_what_has_no_activation_says_so(kind: str) -> None:
    with pytest.raises(NoActivation, match=f"kind {kind} has no activation"):
        files(kind, "/usr", EXPORTS, NOTHING.get)
    assert persisted(kind, "/usr", NOTHING.get) == ()


@pytest.mark.parametrize(
    "export",
    [
        Export("A B", "x"),
        Export("CC", "a\nb"),
        Export(LIST, add=("/a:b",)),
        Export(LIST, add=("{prefix}\r",)),
        Export("CC", "\udcff"),
    ],
)
def test_what_no_script_can_hold_is_refused(export: Export) -> None:
    with pytest.raises(NoActivation):
        files("conda", "/v", [export], NOTHING.get)


# --- commands -----------------------------------------------------------------------------------------------

CHANGE = (
    Export("CUDA_HOME", "{prefix}/my cuda"),
    Export("CC"),
    Export(LIST, add=("/x",)),
    Export("CXX", "c++"),
)
NOW = {"CC": "gcc", LIST: ":/mine", "CXX": "c++"}


@pytest.mark.parametrize(
    ("shell", "expected"),
    [
        ("bash", "export CUDA_HOME='/envs/a/my cuda'\nunset CC\nexport LIBRARY_PATH='/mine:/x'\n"),
        ("fish", "set -gx CUDA_HOME '/envs/a/my cuda';\nset -eg CC;\nset -gx LIBRARY_PATH '/mine:/x';\n"),
        ("csh", "setenv CUDA_HOME '/envs/a/my cuda';\nunsetenv CC;\nsetenv LIBRARY_PATH '/mine:/x';\n"),
        ("dotenv", "CUDA_HOME='/envs/a/my cuda'\nCC=\nLIBRARY_PATH=/mine:/x\n"),
    ],
)
def test_only_what_changes_is_said(shell: str, expected: str) -> None:
    assert commands(CHANGE, NOW, PREFIX, shell) == expected


def test_json_has_null_for_a_variable_to_unset() -> None:
    found = json.loads(commands(CHANGE, NOW, PREFIX, "json"))
    assert found == {"CUDA_HOME": "/envs/a/my cuda", "CC": None, LIST: "/mine:/x"}


@pytest.mark.parametrize("shell", SHELLS)
def test_nothing_is_said_where_nothing_changes(shell: str) -> None:
    assert (
        commands(
            [Export("CC"), Export("CXX", "c++"), Export(LIST, add=("/a",))],
            {"CXX": "c++", LIST: "/a"},
            PREFIX,
            shell,
        ).strip("{}\n")
        == ""
    )


@pytest.fixture
def dotenv() -> ModuleType:
    module: ModuleType = pytest.importorskip("dotenv", reason="python-dotenv is not installed")
    return module


DOTENV = [
    "plain",
    "two words",
    "it's",
    'say "x"',
    "$HOME",
    "a#b",
    " #c",
    "back\\slash",
    "`id`",
    "a=b",
    "~",
    "é",
    "a*",
]


def test_python_dotenv_reads_back_what_was_meant(dotenv: ModuleType) -> None:
    text = commands([Export(f"N{i}", value) for i, value in enumerate(DOTENV)], {}, PREFIX, "dotenv")
    assert list(dotenv.dotenv_values(stream=io.StringIO(text)).values()) == DOTENV


@pytest.mark.parametrize("value", ['it\'s "x"', "${HOME}'", "a\\\\b", "end\\", "it's $x", "two\nlines"])
def test_a_value_that_readers_of_dotenv_files_disagree_on_is_refused(value: str) -> None:
    with pytest.raises(Unwritable, match="NAME: "):
        commands([Export("NAME", value)], {}, PREFIX, "dotenv")


def test_csh_cannot_be_given_a_line_break() -> None:
    with pytest.raises(Unwritable, match="NAME: "):
        commands([Export("NAME", "a\nb")], {}, PREFIX, "csh")
