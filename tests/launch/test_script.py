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
    text = "if [ -f x ]; then TP=1; else TP=2; fi\nvllm serve m -tp $TP\n"
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


# --- branches -----------------------------------------------------------------------------------------------

QUANT = (
    'ARGS=(--port 1)\nif [ "${QUANT:-}" = gptq ]; then ARGS+=(--quantization gptq); fi\n'
    'vllm serve m "${ARGS[@]}"\n'
)
#: Conditions and guards whose variables are known: bash runs them, and hands over what is read here.
DECIDED = {
    "if with an array": QUANT,
    "guard": '[ -n "$LEN" ] && ARGS="$ARGS --max-model-len $LEN"\nvllm serve m $ARGS\n',
    "guard that holds": '[ -n "$HERE" ] && ARGS="--port $HERE"\nvllm serve m $ARGS\n',
    "or": '[ "$HERE" = 2 ] || A=x\n[[ $HERE == 1 ]] || A=y\nvllm serve m $A\n',
    "chain": "true && A=1 && B=2 || C=3\nfalse && D=4 || E=5\nvllm serve m $A $B $C $D $E\n",
    "elif": 'if [ "$HERE" -gt 1 ]; then A=a; elif ! [ -z "$HERE" ]; then A=b; else A=c; fi\nvllm serve $A\n',
    "case of several": 'case "$HERE" in 0|2) A=a ;; 1|3) A=b ;; *) A=c ;; esac\nvllm serve $A\n',
    "default of a case": 'case "$NO" in\n  x) A=a ;;\n  *)\n    A=c\n    ;;\nesac\nvllm serve $A\n',
    "an early end": 'if [ -z "$HERE" ]; then exit 1; fi\nvllm serve m\nexit\nvllm serve n\n',
    "groups": '[ -n "$HERE" ] && { A=1; B=2; }\n(A=3)\nvllm serve m $A $B\n',
    "functions": (
        'usage() { echo; exit 1; }\nfunction go {\n  local m=$1; shift\n'
        '  if [ $m ]; then vllm serve $m "$@"; return; fi\n'
        "  vllm serve none\n}\ngo q --port 3\n"
    ),
    "shifted": 'set -- a b c\nshift\nvllm serve "$@" $1 ${2:-x}\n',
    "line ends behind &&": "true &&\n  A=1 ||\n  A=2\nvllm serve m $A\n",
    "arrays that are not set": 'vllm serve m "${X[@]}" ${X[@]+"${X[@]}"} "${X[@]:-y z}"\n',
    "quotes without anything": 'vllm serve m "${X:-}" "${X+}"\n',
    "while false": "while false; do A=1; done\nvllm serve m $A\n",
}  # fmt: skip


@pytest.mark.parametrize("name", DECIDED)
def test_a_condition_that_is_known_decides_as_it_does_in_bash(name: str, tmp_path: Path) -> None:
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    launch = scripted(DECIDED[name], HERE="1", EMPTY="", HOME="/home/ada")
    assert list(launch.argv) == really(DECIDED[name], tmp_path)


def test_options_of_a_branch_that_nobody_can_decide_are_neither_given_nor_refused() -> None:
    for text in (
        "A=(--port 1)\nif command -v x; then A+=(--quantization nosuch --gone); fi\n",
        "A=(--port 1)\ncommand -v x && A+=(--max-model-len)\n",
        "A=(--port 1)\nfor x in a b; do A+=($x); done\n",
        "A=(--port 1)\ncase $(x) in a) A+=(--gone);; esac\n",
    ):
        launch = scripted(text + 'vllm serve m "${A[@]}" --headless\n', known=small())
        assert (launch.model, launch.refused, set(launch.options)) == ("m", (), {"--port", "--headless"})
        assert "A is set in a branch, at line 2" in launch.partial
        # What is not known comes behind the port and may give it anew, but in front of --headless.
        assert launch.unknown("--port") == launch.partial == launch.unknown("--max-model-len")
        assert launch.flag("--headless") is True and launch.unknown("--headless") == ""


def test_words_that_a_text_begins_with_in_any_case_are_known() -> None:
    text = 'CMD="vllm serve m --gone"\ntest -f x && CMD="$CMD --port 1"\n$CMD\n'
    launch = scripted(text, known=small())
    assert (launch.model, [each.name for each in launch.refused]) == ("m", ["--gone"]) and launch.partial


@pytest.mark.parametrize("word", ["$EXTRA", "$(cat f)", "${EXTRA:-x}", '"${@:2}"'])
def test_words_that_nobody_knows_may_be_any_options(word: str) -> None:
    launch = scripted(f"EXTRA=$(cat f)\nvllm serve m --port 1 {word} --headless\n", known=small())
    assert launch.partial.startswith("what stands at /home/ada/run.sh:2 may hold more options: ")
    assert launch.options["--port"].values == () and launch.flag("--headless") is True


def test_what_a_caller_may_add_leaves_the_script_s_own_options_as_they_are() -> None:
    launch = scripted('vllm serve m --port 1 "$@"\n', known=small())
    assert launch.integer("--port") == 1 and launch.unknown("--max-model-len") == launch.partial != ""


def test_an_array_that_doubles_itself_stays_small() -> None:
    launch = scripted("A=(x)\n" + 'A+=("${A[@]}")\n' * 60 + "vllm serve m ${A[@]}\n")
    assert len(launch.argv) < 6000 and launch.partial


def test_words_that_are_known_leave_nothing_open() -> None:
    for text in ("vllm serve m --port $(port) $NOT_SET\n", 'M=$(x)\nvllm serve "$M" --port 1\n'):
        assert scripted(text, known=small()).partial == ""


def test_of_launches_that_exclude_each_other_only_what_they_share_is_known() -> None:
    text = (
        "if [ -f x ]; then\n  exec vllm serve m --gone --port 1 --headless\nelse\n"
        "  exec vllm serve m --port 2 --headless --kv-cache-dtype fp9\nfi\n"
    )
    launch = scripted(text, known=small())
    assert (launch.model, launch.flag("--headless"), launch.options["--port"].values) == ("m", True, ())
    assert {each.name: each.uncertain for each in launch.refused} == {
        "--gone": True, "--kv-cache-dtype": True
    }  # fmt: skip
    both = scripted(text.replace("--port 2", "--gone --port 2"), known=small())
    assert {each.name: each.uncertain for each in both.refused}["--gone"] is False
    assert noted(launch) == {"several-launches"}
    apart = scripted("if [ -f x ]; then exec vllm serve m; fi\ndocker run vllm/vllm-openai m\n")
    assert (apart.kind, noted(apart)) == ("other", {"not-followed", "several-launches"})


def test_a_variable_that_is_exported_in_a_branch_is_doubtful() -> None:
    launch = scripted("export A=1 && export B=2\nfoo && export C=3\nexport D=$(x)\nvllm serve m\n")
    assert variables(launch) == {"A": "1", "B": "2"}
    assert launch.doubtful == {
        "C": "C is set in a branch, at line 2", "D": "$(x) is known only when it runs"
    }  # fmt: skip


def test_numbers_that_nothing_is_counted_in_are_no_numbers() -> None:
    for digits in (40, 400, 5000):
        launch = scripted(f"vllm serve m --max-model-len {'9' * digits}k --x {'9' * digits}\n")
        assert launch.integer("--max-model-len") is launch.integer("--x") is launch.number("--x") is None
    assert scripted("vllm serve m --x nan\n").number("--x") is None
