"""Programs that start the rest of their words as a command, and how far their own words go.

The options were read from `--help` of coreutils 9.1, util-linux 2.38.1 and uv 0.13.9, from conda's reference
(https://docs.conda.io/projects/conda/en/latest/commands/run.html), from `torch/distributed/run.py` of torch
2.9.0, from sudo's manual (https://linuxcommand.org/lc3_man_pages/sudo8.html and a later copy), from gosu's
usage, from tini's src/tini.c (https://github.com/krallin/tini, commit 003414a2) and from doas.c
(https://github.com/Duncaen/OpenDoas, commit 5b724c6d), all on 2026-11-21.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from cudadoctor.launch.texts import Word


class Wrapper(Struct, frozen=True):
    """One program in front of another.

    `valued`: the options that take the word behind them. Where that list is not complete, a word behind an
    option may be its value: the command begins with the first program that is known.
    """

    valued: frozenset[str] = frozenset()
    operands: int = 0  #: words of its own that follow the options
    complete: bool = True


def _valued(text: str, operands: int = 0) -> Wrapper:
    return Wrapper(frozenset(text.split()), operands)


#: uv's options that take a value, those of `uv run` and of `uv tool run`.
_UV = """
    --allow-insecure-host --cache-dir --color --config-file --config-setting --config-settings-package
    --default-index --directory --env-file --exclude-newer --exclude-newer-package --extra --extra-index-url
    --find-links --fork-strategy --group --index --index-strategy --index-url --keyring-provider --link-mode
    --no-binary-package --no-build-isolation-package --no-build-package --no-editable-package --no-extra
    --no-group --no-sources-package --only-group --package --prerelease --prerelease-package --project
    --python --python-platform --refresh-package --reinstall-package --resolution --upgrade-group
    --upgrade-package --with --with-editable --with-requirements --from --constraints --build-constraints
    --overrides --torch-backend -C -P -b -c -f -i -p -w
"""
_SUDO = """
    -u --user -g --group -h --host -p --prompt -C --close-from -r --role -t --type -T --command-timeout
    -U --other-user -D --chdir -R --chroot
"""
_SETPRIV = """
    --ambient-caps --inh-caps --bounding-set --ruid --euid --rgid --egid --reuid --regid --groups
    --securebits --pdeathsig --selinux-label --apparmor-profile
"""
_CONDA = "-n --name -p --prefix --cwd"
WRAPPERS: dict[str, Wrapper] = {
    "nohup": Wrapper(),
    "exec": _valued("-a"),
    "command": Wrapper(),
    "builtin": Wrapper(),
    "nice": _valued("-n --adjustment"),
    "stdbuf": _valued("-i --input -o --output -e --error"),
    "timeout": _valued("-k --kill-after -s --signal", operands=1),
    "taskset": _valued("", operands=1),
    "setsid": Wrapper(),
    "ionice": _valued("-c --class -n --classdata"),
    "chrt": _valued("-T --sched-runtime -P --sched-period -D --sched-deadline", operands=1),
    "cudadoctor run": _valued("--prefix --python -n --name --fail-on --ignore --config"),
    "sudo": _valued(_SUDO),
    "doas": _valued("-a -C -u"),
    "gosu": _valued("", operands=1),
    "setpriv": _valued(_SETPRIV),
    "prlimit": _valued("-p --pid -o --output"),
    "flock": _valued("-w --timeout -E --conflict-exit-code", operands=1),
    "tini": _valued("-p -e -R"),
    "uv run": _valued(_UV),
    "uv tool run": _valued(_UV),
    "uvx": _valued(_UV),
    "conda run": _valued(_CONDA),
    "mamba run": Wrapper(frozenset(_CONDA.split()), complete=False),
    "micromamba run": Wrapper(frozenset(_CONDA.split()), complete=False),
    **{
        name: Wrapper(complete=False)
        for name in (
            "accelerate launch",
            "catchsegv",
            "dumb-init",
            "nsys profile",
            "numactl",
            "pipenv run",
            "hatch run",
            "pdm run",
            "pixi run",
            "poetry run",
            "rye run",
            "srun",
            "systemd-run",
            "time",
        )
    },
}
TORCHRUN_FLAGS = frozenset(
    ("--standalone", "-m", "--module", "--no-python", "--no_python", "--run-path", "--run_path")
)


def split(
    words: list[Word], begin: int, wrapper: Wrapper, known: Callable[[str], bool]
) -> tuple[list[Word], list[Word]]:
    """Return a wrapper's own words and the command behind them; `begin`: how many words are its name."""
    at, operands, behind_option = begin, wrapper.operands, False
    while at < len(words):
        text = words[at].text
        if text == "--":
            at += 1
            break
        if text.startswith("-") and len(text) > 1:
            valued = text in wrapper.valued or _takes_next(text, wrapper.valued)
            behind_option = "=" not in text and not valued
            at += 2 if valued else 1
        elif operands:
            operands -= 1
            at += 1
        elif not wrapper.complete and behind_option and not known(text):
            behind_option = False
            at += 1
        else:
            break
    return words[:at], words[at:]


def _takes_next(text: str, valued: frozenset[str]) -> bool:
    """Return whether letters behind one dash end with one that takes the next word: `-Eu ada`."""
    if text.startswith("--"):
        return False
    first = next((at for at, letter in enumerate(text[1:], 1) if f"-{letter}" in valued), 0)
    return first > 0 and first == len(text) - 1


def given(own: list[Word], *names: str) -> list[Word]:
    """Return the values that a wrapper's own words give these options."""
    found = []
    for at, word in enumerate(own):
        name, equals, value = word.text.partition("=")
        if name in names and equals:
            found.append(word.with_text(value))
        elif word.text in names and at + 1 < len(own):
            found.append(own[at + 1])
    return found
