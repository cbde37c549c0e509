"""Shell scripts: the real shell is the judge of which words a program gets."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cudadoctor.host import RealHost
from cudadoctor.launch import script
from cudadoctor.launch.draft import Draft
from cudadoctor.launch.expansion import Scope
from cudadoctor.launch.shell import commands
from tests.launch.read import host, noted, scripted, small, values, variables

#: Each is a script that starts vLLM once; what the real bash hands to it must be what is read here.
SCRIPTS = {
    "plain": "vllm serve m --port 8000\n",
    "continued": "vllm serve m \\\n  --port 8000 \\\n  --max-model-len 4096\n",
    "quotes": """vllm serve "a b" --x 'c "d" $HOME' --y "e 'f' \\"g\\" \\$h" --z i\\ j\n""",
    "json": """vllm serve m --hf-overrides '{"a": {"b": 1}}' --cc "{\\"level\\": 3}"\n""",
    "variables": 'M=org/m\nLEN=4096\nvllm serve $M --max-model-len "$LEN" --name "${M}-$LEN"\n',
    "defaults": "vllm serve ${MODEL:-m} --a ${P:-80${X:-00}} ${NO:+no} ${HERE:+yes} ${EMPTY-e} ${EMPTY:-f}\n",
    "split": 'ARGS="--port 8000  --headless"\nvllm serve m $ARGS "$ARGS" x$ARGS\n',
    "appended": 'ARGS="--a"\nARGS+=" --b"\nARGS="$ARGS --c"\nvllm serve m $ARGS\n',
    "arrays": 'A=(--port 8000 "a b")\nA+=(--x)\nvllm serve m "${A[@]}" ${A[1]} "${A[@]}y"\n',
    "multiline array": "A=(\n  --port 8000 # the port\n  --x\n)\nvllm serve m ${A[@]}\n",
    "comments": "# vllm serve no\nvllm serve m # --not\necho a#b # c\n",
    "here-document": "cat > f <<'EOF'\nvllm serve no \"unclosed\nEOF\ncat <<-E\n\tx\n\tE\nvllm serve m\n",
    "redirected": "vllm serve m --port 8000 > log 2>&1 < /dev/null &\nwait\n",
    "piped": "vllm serve m 2>&1 | tee log\n",
    "chained": "true && vllm serve m || echo no; echo done\n",
    "if": 'if [ -z "$MODEL" ]; then\n  MODEL=m\nfi\nvllm serve $MODEL\n',
    "exec": 'set -euo pipefail\nexec vllm serve "${MODEL:=m}" "$MODEL"\n',
    "ansi": "vllm serve m --x $'a\\tb\\'c'\n",
    "export": "export A=1 M=m\nexport A\nvllm serve $M $A\n",
    "tilde": "vllm serve ~/m --x=~/n\n",
    "function": "main() {\n  vllm serve m --port 1\n}\nmain\n",
    "unset": "M=m\nN=n\nunset N\nvllm serve $M \"$N\" $N\n",
    "arguments": 'set -- m --port 8000\nvllm serve "$@"\n',
    "loop": "for i in 1; do vllm serve m; done\n",
    "case": "case x in x) M=m ;; esac\nvllm serve $M\n",
    "empty quotes": "vllm serve '' \"\" m\n",
    "escaped newline in quotes": 'vllm serve "a\\\nb" m\n',
}  # fmt: skip
SHOW = 'vllm() { printf "%s\\0" vllm "$@" >> "$OUT"; }\n'


def really(text: str, folder: Path, **environ: str) -> list[str]:
    """Return the words that bash hands to a program called vllm."""
    out = folder / "out"
    variables = {
        "PATH": "/usr/bin:/bin",
        "HOME": "/home/ada",
        "OUT": str(out),
        "HERE": "1",
        "EMPTY": "",
        **environ,
    }
    text = text.replace("exec vllm", "vllm")
    subprocess.run(["bash", "-c", SHOW + text], env=variables, cwd=folder, capture_output=True, timeout=20)
    return out.read_text().split("\0")[:-1]


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_words_are_those_that_bash_hands_over(name: str, tmp_path: Path) -> None:
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    launch = scripted(SCRIPTS[name], HERE="1", EMPTY="", HOME="/home/ada")
    assert list(launch.argv) == really(SCRIPTS[name], tmp_path)


PIECES = st.sampled_from(
    [
        "a", "b c", "'x y'", '"q r"', '"$A"', "$A", "${B:-d e}", '"${B:-d e}"', "\\ ", "$E", '""', "x=",
        "--o", "${A}z", "'$A'", '"\\$A"', "#c", " ", "  ", "${N:+p q}", "$'t\\tn'", "${L[@]}",
        '"${L[@]}"', "${L[1]}", "~/h", "\"'\"", "{", '${A:+"u v"}', '"${B-"w x"}"',
    ]
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(PIECES, min_size=1, max_size=8))
def test_any_pieces_make_the_words_that_bash_makes_of_them(pieces: list[str]) -> None:
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    text = f"A='1 2'\nE=\nN=n\nL=(l1 'l 2')\nvllm serve m {''.join(pieces)}\n"
    with tempfile.TemporaryDirectory() as folder:
        assert list(scripted(text, HOME="/home/ada").argv) == really(text, Path(folder))


@given(st.lists(st.text(st.characters(codec="ascii", exclude_characters="\0\r"), max_size=12), max_size=6))
def test_any_words_come_through_quotes_as_they_were(words: list[str]) -> None:
    (tokens,) = commands(f"vllm {shlex.join(words)}\n", "s")
    scope = Scope(lambda name: None, "/home/ada", "s")
    assert [word.text for token in tokens for word in scope.words(token)] == ["vllm", *words]


@given(st.text(st.sampled_from("a$ {}\"'\\`()<>|&;=#[]@\n-:?+!*~1"), max_size=60))
def test_any_text_is_read_or_refused_with_its_line(text: str) -> None:
    from cudadoctor.launch.texts import LaunchUnreadable

    try:
        scripted(text)
    except LaunchUnreadable as error:
        assert str(error).startswith("/home/ada/run.sh:")


def test_exports_and_the_variables_of_the_line_are_the_launch_s() -> None:
    text = "A=1\nexport B=2 C\nC=3\ndeclare -x D=4\nset -a\nE=5\nset +a\nF=6\nG=7 vllm serve m\n"
    launch = scripted(text)
    assert variables(launch) == {"B": "2", "C": "3", "D": "4", "E": "5", "G": "7"}
    assert launch.variables["B"].origin == "/home/ada/run.sh:2"


def test_each_option_is_told_with_its_line() -> None:
    launch = scripted("M=m\nvllm serve $M \\\n  --port 1 \\\n  --max-model-len 4096\n")
    assert launch.options["--max-model-len"].origin == "/home/ada/run.sh:4"
    assert launch.source == "/home/ada/run.sh"


def test_what_only_running_tells_is_not_guessed() -> None:
    launch = scripted(
        'vllm serve m --tensor-parallel-size $(nvidia-smi -L | wc -l) --port "$1"\n', known=small()
    )
    given = launch.options["--tensor-parallel-size"]
    assert (given.values, given.reason) == ((), "$(nvidia-smi -L | wc -l) is known only when it runs")
    assert launch.refused == () and "value-unknown" in noted(launch)
    assert launch.options["--port"].values == ()


def test_arguments_that_only_running_tells_are_not_refused() -> None:
    text = "A=--x\nif y; then A=--z; fi\nvllm serve m $(cat flags) $A --port=$(port) --headless\n"
    launch = scripted(text, known=small())
    assert (launch.model, launch.refused) == ("m", ())
    assert (launch.options["--port"].values, launch.flag("--headless")) == ((), True)


def test_branches_that_disagree_leave_a_value_unknown() -> None:
    text = "if [ x ]; then TP=1; else TP=2; fi\nvllm serve m -tp $TP\n"
    assert scripted(text).options["--tensor-parallel-size"].reason == "TP is set in a branch, at line 1"
    assert scripted("for P in 1 2; do\nvllm serve m --port $P\ndone\n").text("--port") is None


def test_a_variable_that_is_not_set_is_told() -> None:
    launch = scripted("vllm serve m --api-key $KEY --port 1\n")
    assert ("KEY is not set: nothing takes its place", "/home/ada/run.sh:1") in [
        (note.text, note.origin) for note in launch.notes
    ]


def test_a_sourced_env_file_is_followed_and_another_file_is_not() -> None:
    files = {
        "run.sh": "set -a; source .env; set +a\n. ./lib.sh\nvllm serve $MODEL\n",
        ".env": "MODEL=m\nHF_TOKEN=\n",
    }
    launch = script.read(host(files), "/home/ada/run.sh")
    assert (launch.model, variables(launch)) == ("m", {"MODEL": "m", "HF_TOKEN": ""})
    assert launch.variables["HF_TOKEN"].origin == ".env:2"
    assert [note.text for note in launch.notes] == ["./lib.sh is sourced, and not followed"]


def test_several_launches_are_told_and_the_first_is_read() -> None:
    launch = scripted("vllm serve a --port 1 &\nvllm serve b --port 2\n")
    assert (launch.model, noted(launch)) == ("a", {"several-launches"})


def test_a_text_that_doubles_itself_stays_small() -> None:
    text = "A=aaaaaaaaaaaaaaaa\n" + 'A="$A$A$A$A"\n' * 40 + "vllm serve m --x $A\n"
    assert scripted(text).options["--x"].values == ()


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("a\nb 'c\nd\n", 2, "'"),
        ('vllm serve "m\n', 1, '"'),
        ("a\n\nvllm $(b\n", 3, "$("),
        ("${a\n", 1, "${"),
        ("`a\n", 1, "`"),
        ("A=(b\nc\n", 1, "("),
    ],
)
def test_what_is_never_closed_is_one_line(text: str, line: int, what: str) -> None:
    from cudadoctor.launch.texts import LaunchUnreadable

    with pytest.raises(LaunchUnreadable) as error:
        scripted(text)
    assert str(error.value) == f"/home/ada/run.sh:{line}: the {what} is never closed"


def test_values_are_read_as_vllm_reads_them() -> None:
    launch = scripted("vllm serve m --max-model-len 32k --x 1.5 --enforce-eager --no-y\n")
    assert launch.integer("--max-model-len") == 32000 and launch.number("--x") == 1.5
    assert (
        launch.flag("--enforce-eager") is True and launch.flag("--y") is False and launch.flag("--z") is None
    )
    assert values(launch)["--max-model-len"] == "32k"


def test_a_draft_that_is_copied_goes_its_own_way() -> None:
    draft = Draft(RealHost({}))
    draft.copied().assign("A", "1", "x")
    assert draft.variables == {}
