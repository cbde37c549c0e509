"""The command line: options, dispatch, exit codes. Imports nothing heavy; each command loads its own."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from cudadoctor import __version__
from cudadoctor.mistakes import UserMistake

EPILOG = """\
exit codes:
  0  nothing at or above --fail-on (default: error)
  1  findings
  2  wrong usage, or input that cannot be read
  3  the doctor itself failed (a check or plug-in crashed) and nothing worse was found
"""
#: The one file that check writes, and only where it is told to.
_ACTIONS = """\
In a step of GitHub Actions a report in text is followed by annotations, and added to the file that
GITHUB_STEP_SUMMARY names.

"""


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """The usual formatter, told the width: it is made for each option, and would import shutil to ask."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_columns() - 2)


def _columns() -> int:
    """Return how wide the terminal is, as shutil.get_terminal_size has it."""
    named = os.environ.get("COLUMNS", "")
    if named.isdecimal() and int(named):
        return int(named)
    try:
        return os.get_terminal_size(1).columns or 80
    except OSError:
        return 80


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Print the mistake and where the help is; exit 2."""
        from cudadoctor.show import visible

        self.exit(2, f"{self.prog}: {visible(message)} (see: {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with every command."""
    parser = _Parser(
        prog="cudadoctor",
        description="Says why a CUDA, torch, vLLM or FlashInfer environment will fail, before the launch.",
        epilog=EPILOG,
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"cudadoctor {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    _check(commands)
    _fix(commands)
    _undo(commands)
    _env(commands)
    _preflight(commands)
    _run_command(commands)
    _explain(commands)
    _report_command(commands)
    _diff(commands)
    _facts(commands)
    _list(commands)
    _docs(commands)
    schema = add(commands, "schema", "print a JSON Schema: of a report, an explanation or a difference")
    kinds = ["report", "explanation", "difference"]
    schema.add_argument("kind", nargs="?", choices=kinds, default="report", help="default: report")
    completion = add(commands, "completion", "print a completion script for your shell")
    completion.add_argument("shell", choices=["bash", "zsh", "fish", "tcsh"], help="the shell to complete in")
    add(commands, "man", "print the manual page, for man: cudadoctor man | man -l -")
    return parser


def add(
    commands: argparse._SubParsersAction[_Parser], name: str, summary: str, epilog: str = ""
) -> argparse.ArgumentParser:
    """Add one command."""
    return commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=epilog,
        formatter_class=_Formatter,
        allow_abbrev=False,
    )


def _given(text: str) -> str:
    """Refuse an empty value: `--prefix "$UNSET"` must not quietly mean the active environment."""
    if not text:
        raise argparse.ArgumentTypeError("is empty (an unset variable?)")
    return text


def _target(parser: argparse.ArgumentParser, *, live: bool = False) -> None:
    """Add the options that name the target; a `live` one is a machine's own, never a saved report."""
    group = parser.add_argument_group(
        "target", "Which environment; by default the active one, else python3 on PATH."
    ).add_mutually_exclusive_group()
    group.add_argument("--prefix", metavar="DIR", type=_given, help="the environment in this folder")
    group.add_argument("--python", metavar="EXE", type=_given, help="the environment of this interpreter")
    group.add_argument("-n", "--name", metavar="NAME", type=_given, help="the conda environment of this name")
    if live:
        parser.set_defaults(facts=None, deep=False)
        return
    group.add_argument(
        "--facts", metavar="FILE", type=_given, help="replay a report or facts file (- for stdin)"
    )
    real = "also run the real compiler and linker, and import the stack (up to minutes)"
    parser.add_argument("--deep", action="store_true", help=real)


def _check(commands: argparse._SubParsersAction[_Parser]) -> None:
    parser = add(
        commands,
        "check",
        "look at an environment and say what will fail, and why",
        "Writes nothing outside its own temporary folder, never imports torch, works offline.\n"
        + _ACTIONS
        + EPILOG,
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="run only these checks (see: cudadoctor list)"
    )
    _target(parser)
    _report(parser)


def _report(parser: argparse.ArgumentParser) -> None:
    forms = ["text", "json", "markdown", "junit", "sarif"]
    parser.add_argument("--format", choices=forms, default="text", help="default: text")
    _judging(parser)
    volume = parser.add_mutually_exclusive_group()
    volume.add_argument("-q", "--quiet", action="store_true", help="one line a finding, nothing when healthy")
    volume.add_argument("-v", "--verbose", action="store_true", help="every check with its reason and time")


def _judging(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--fail-on",
        choices=["error", "warning", "note", "never"],
        help="exit 1 at this severity (default: error)",
    )
    _settings(parser)


def _settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ignore", action="append", default=[], metavar="NAME", help="leave this check out")
    config = parser.add_mutually_exclusive_group()
    config.add_argument("--config", metavar="FILE", type=_given, help="take settings from this file")
    config.add_argument(
        "--no-config", action="store_true", help="look for no cudadoctor.toml or pyproject.toml"
    )


def _fix(commands: argparse._SubParsersAction[_Parser]) -> None:
    parser = add(
        commands,
        "fix",
        "plan repairs, say what they will clear, and with --apply carry them out",
        "Without --apply nothing is changed. Every change is written down first and can be taken back:\n"
        "cudadoctor undo. Packages and lower optimisation need --unsafe too.\n\n" + EPILOG,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="only for these checks, or by these fixes")
    _target(parser)
    parser.add_argument("--apply", action="store_true", help="carry the plan out, then check again")
    parser.add_argument("--unsafe", action="store_true", help="also what changes packages or generated code")
    parser.add_argument("--resume", action="store_true", help="complete a run that was interrupted")
    parser.add_argument("--format", choices=["text", "json", "script"], default="text", help="default: text")
    _judging(parser)


def _undo(commands: argparse._SubParsersAction[_Parser]) -> None:
    parser = add(commands, "undo", "take a run of fix back, byte for byte")
    parser.add_argument("run", nargs="?", metavar="RUN", help="which (default: the last one)")
    _target(parser, live=True)
    parser.add_argument("--list", action="store_true", help="list the runs and what they did")
    parser.add_argument("--force", action="store_true", help="even where something was changed since")
    parser.add_argument("--purge", action="store_true", help="remove for good what runs have moved aside")


def _env(commands: argparse._SubParsersAction[_Parser]) -> None:
    parser = add(
        commands,
        "env",
        "print the exports of the fixes, for a launch script",
        'In a launch script:  eval "$(cudadoctor env)"\n\n'
        "Prints what the environment's activation files export already, and what would help without a file\n"
        "being changed: where `fix` would make a link, the variable that does the same.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="only for these checks, or by these fixes")
    _target(parser, live=True)
    shells = ["bash", "zsh", "fish", "csh", "dotenv", "json"]
    parser.add_argument("--shell", choices=shells, default="bash", help="whose syntax (default: bash)")
    parser.add_argument("--unsafe", action="store_true", help="also what changes generated code")
    _settings(parser)


def _launch(parser: argparse.ArgumentParser) -> None:
    """Add what names a launch, and the card to plan it for."""
    group = parser.add_argument_group("launch", "The command after `--`, or the file that holds it.")
    files = group.add_mutually_exclusive_group()
    files.add_argument(
        "--compose", metavar="FILE", type=_given, help="a compose file; COMMAND is its service"
    )
    files.add_argument("--dockerfile", metavar="FILE", type=_given, help="the CMD or ENTRYPOINT of this file")
    files.add_argument(
        "--script", metavar="FILE", type=_given, help="a shell or Python script that starts it"
    )
    card = parser.add_argument_group("card", "By default the GPUs that the launch will see here.")
    card.add_argument("--gpu", metavar="NAME", type=_given, help="plan for this card: rtx-3090, h100 ...")
    card.add_argument("--gpu-memory", metavar="SIZE", type=_given, help="what CUDA reports of it: 24GiB")
    card.add_argument("--compute-capability", metavar="X.Y", type=_given, help="of the card: 8.6")
    card.add_argument("--count", type=int, default=1, metavar="N", help="how many of them (default: 1)")


def _preflight(commands: argparse._SubParsersAction[_Parser]) -> None:
    parser = add(
        commands,
        "preflight",
        "say before a launch whether it will start here, and if not, what would",
        "cudadoctor preflight -- vllm serve MODEL ...\n\n"
        "Checks the environment, the options, the model's files and the GPU's memory; starts nothing.\n"
        + _ACTIONS
        + EPILOG,
    )
    parser.add_argument(
        "argv", nargs="*", metavar="COMMAND", help="after `--`: the command and its arguments"
    )
    _launch(parser)
    parser.add_argument("--online", action="store_true", help="ask the hub for config and index of the model")
    _target(parser)
    _report(parser)
    parser.set_defaults(names=[])


def _run_command(commands: argparse._SubParsersAction[_Parser]) -> None:
    parser = add(
        commands,
        "run",
        "look, set the variables that help, then become a command",
        "In a launch script:  cudadoctor run -- vllm serve ...\n\n"
        "The command takes this process over: same pid, signals, exit code, and the variables as they are\n"
        "but for the exports of `cudadoctor env`. With findings that those do not clear it is not started\n"
        "and the exit code is 1. Everything cudadoctor says goes to stderr.",
    )
    _target(parser, live=True)
    parser.add_argument("--dry-run", action="store_true", help="say what would be set and started")
    parser.add_argument("--no-env", action="store_true", help="set no variables")
    strict = "nor start where something cannot be told, or cudadoctor itself failed"
    parser.add_argument("--strict", action="store_true", help=strict)
    _judging(parser)
    parser.add_argument(
        "argv", nargs="*", metavar="COMMAND", help="after `--`: the command and its arguments"
    )
    parser.set_defaults(names=[], unsafe=False)


def _no_launch_files(parser: argparse.ArgumentParser) -> None:
    """Let a launch be named by its command alone."""
    files = dict.fromkeys(("compose", "dockerfile", "script", "gpu", "gpu_memory", "compute_capability"))
    parser.set_defaults(names=[], count=1, online=False, **files)


def _explain(commands: argparse._SubParsersAction[_Parser]) -> None:
    parser = add(
        commands,
        "explain",
        "name the cause in a log, and say whether it is so on this machine",
        "vllm serve ... 2>&1 | tee serve.log ; cudadoctor explain serve.log\n\n"
        "Reads a log of any size, tells the cause from its consequences and from harmless lines; then the\n"
        "check that knows of it looks here, or at the report of --facts. With the launch after `--` the\n"
        "checks of launches look too.\n\n"
        "exit codes: 0 no cause found, 1 a cause, 2 wrong usage or a log that cannot be read",
    )
    parser.add_argument("log", metavar="LOG", type=_given, help="the log's file (- for stdin)")
    parser.add_argument(
        "argv", nargs="*", metavar="COMMAND", help="after `--`: the launch that the log is of"
    )
    _target(parser)
    parser.add_argument("--no-check", action="store_true", help="read the log only: look at no machine")
    parser.add_argument("--format", choices=["text", "json"], default="text", help="default: text")
    _settings(parser)
    _no_launch_files(parser)


def _report_command(commands: argparse._SubParsersAction[_Parser]) -> None:
    parser = add(
        commands,
        "report",
        "put everything that a maintainer needs into one paste, without your secrets",
        "cudadoctor report --log serve.log > ticket.md\n\n"
        "Prints one Markdown block for a ticket: the findings, what the log says, and the whole report.\n"
        "Keys, names, hosts and addresses are masked.\n\n" + EPILOG,
    )
    parser.add_argument("argv", nargs="*", metavar="COMMAND", help="after `--`: the launch that it is about")
    _target(parser)
    parser.add_argument("--log", metavar="FILE", type=_given, help="add what explain finds in this log")
    parser.add_argument("--output", metavar="DIR", type=_given, help="write them into this folder as files")
    parser.add_argument("--show-masked", action="store_true", help="list what was masked, never the values")
    _judging(parser)
    _no_launch_files(parser)


def _diff(commands: argparse._SubParsersAction[_Parser]) -> None:
    parser = add(
        commands,
        "diff",
        "say what differs between two reports, and what would bring the second to the first",
        "cudadoctor check --format json > works.json     # on the machine that works\n"
        "cudadoctor diff works.json broken.json          # or without the second: against this machine\n\n"
        "exit codes: 0 the same, 1 different, 2 wrong usage or a report that cannot be read",
    )
    parser.add_argument("first", metavar="A", type=_given, help="a report or facts file (- for stdin)")
    parser.add_argument("second", metavar="B", nargs="?", type=_given, help="another (default: look here)")
    _target(parser, live=True)
    forms = ["text", "json", "markdown"]
    parser.add_argument("--format", choices=forms, default="text", help="default: text")
    parser.add_argument("-v", "--verbose", action="store_true", help="also what matters to no check")
    _settings(parser)
    parser.set_defaults(names=[])


def _facts(commands: argparse._SubParsersAction[_Parser]) -> None:
    _target(add(commands, "facts", "print what was seen, as JSON, without judging it"))


def _list(commands: argparse._SubParsersAction[_Parser]) -> None:
    parser = add(commands, "list", "list the checks and the fixes")
    parser.add_argument(
        "--format", choices=["text", "json", "markdown"], default="text", help="default: text"
    )


def _docs(commands: argparse._SubParsersAction[_Parser]) -> None:
    add(commands, "docs", "print the page of a check or a fix").add_argument(
        "name", metavar="NAME", help="a check's or a fix's name"
    )


def _parsed(parser: argparse.ArgumentParser, argv: list[str]) -> argparse.Namespace:
    """Parse a command line; argparse takes COMMAND for absent where an option is between LOG and `--`."""
    if argv[:1] != ["explain"] or "--" not in argv:
        return parser.parse_args(argv)
    end = argv.index("--")
    options = parser.parse_args(argv[:end])
    options.argv = argv[end + 1 :]
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parser = build_parser()
    options = _parsed(parser, list(sys.argv[1:] if argv is None else argv))
    if options.command is None:
        parser.print_help(sys.stderr)
        return 2
    try:
        code = _run(options)
        sys.stdout.flush()
        return code
    except UserMistake as mistake:
        return _complain(str(mistake), 2)
    except BrokenPipeError:
        # Whoever read the output has had enough; what is left in the buffer must not raise at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    except OSError as error:
        return _complain(f"{error.filename or 'output'}: {error.strerror or error}", 3)
    except Exception as error:
        from cudadoctor.declare import where

        return _complain(f"failed ({where(error)}): this is a bug of cudadoctor", 3)


def entry() -> NoReturn:
    """Run one command and end at once with its exit code.

    A probe on a file system that does not answer, or a plug-in that loops, has been left behind in a thread:
    the interpreter's own way out would wait for it, and takes longer than all the checks.
    """
    gc.disable()  # what a run makes lives until its end: looking for garbage is a tenth of the time
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller: what is said goes nowhere, the exit code tells
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
    try:
        code = main()
    except SystemExit as end:  # argparse: help, or a usage error
        code = end.code if isinstance(end.code, int) else 2
    if host := sys.modules.get("cudadoctor.host"):
        host.leave_nothing()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            pass
    os._exit(code)


def _run(options: argparse.Namespace) -> int:
    import importlib

    _import_msgspec()
    module = importlib.import_module(f"cudadoctor.commands.{options.command}")
    code: int = module.run(options)
    return code


def _import_msgspec() -> None:
    """Import msgspec without typing_extensions, which it takes where that is installed.

    It gets on without, nothing of it is used here, and reading it takes a tenth of a whole check.
    """
    name = "typing_extensions"
    missing = sys.modules.setdefault(name, None)  # type: ignore[arg-type]
    try:
        import msgspec  # noqa: F401
    finally:
        if missing is None:
            del sys.modules[name]


def _complain(message: str, code: int) -> int:
    """Print one line that holds no control character and no personal path."""
    from cudadoctor.redact import Redactor
    from cudadoctor.show import visible

    home = os.path.expanduser("~")
    text = visible(Redactor(home).text(message.replace(f"{home}/", "~/") if len(home) > 1 else message))
    sys.stderr.write(f"cudadoctor: {text}\n")
    return code
