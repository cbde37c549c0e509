"""`cudadoctor preflight -- COMMAND`: a check of the environment and of what is to be started in it."""

from __future__ import annotations

import argparse
import re

from cudadoctor.commands import check
from cudadoctor.commands.look import must_name_no_launch
from cudadoctor.knowledge import gpus
from cudadoctor.mistakes import UserMistake, nearest
from cudadoctor.probes.target import Asked

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(GiB|MiB|GB|MB|G|M)", re.IGNORECASE)
_UNITS = {"gib": 1 << 30, "mib": 1 << 20, "g": 1 << 30, "m": 1 << 20, "gb": 10**9, "mb": 10**6}


def run(options: argparse.Namespace) -> int:
    """Check and print; return the exit code of `check`."""
    if options.facts:
        must_name_no_launch(options)
    options.asked = None if options.facts else asked_for(options)
    return check.run(options)


def asked_for(options: argparse.Namespace) -> Asked:
    """Return the launch and the card that the options name; raise UserMistake where they name none."""
    words, service = tuple(options.argv), ""
    if options.compose:
        if len(words) > 1:
            raise UserMistake(f"--compose takes one service, and {len(words)} are given")
        words, service = (), words[0] if words else ""
    elif (options.dockerfile or options.script) and words:
        raise UserMistake("the launch is named twice: by a file, and by a command")
    elif not (words or options.dockerfile or options.script):
        raise UserMistake(f"no command is given (cudadoctor {options.command} -- vllm serve ...)")
    if options.gpu and gpus.find(options.gpu) is None and not options.gpu_memory:
        hint = nearest(options.gpu, list(gpus.names()))
        raise UserMistake(f"no card is called {options.gpu!r}{hint} (or name its size: --gpu-memory 24GiB)")
    if options.count != 1 and not (options.gpu or options.gpu_memory):
        raise UserMistake("--count is of the card that --gpu or --gpu-memory names")
    if not 1 <= options.count <= 1024:
        raise UserMistake(f"--count {options.count}: from 1 to 1024")
    capability = options.compute_capability or ""
    if capability and re.fullmatch(r"\d{1,2}\.\d", capability) is None:
        raise UserMistake(f"--compute-capability {capability}: two numbers like 8.6 are wanted")
    return Asked(
        words, options.compose or "", service, options.dockerfile or "", options.script or "",
        options.gpu or "", _size(options.gpu_memory), capability, options.count, options.online,
    )  # fmt: skip


def _size(text: str | None) -> int:
    if not text:
        return 0
    match = _SIZE.fullmatch(text.strip())
    if match is None or not float(match[1]):
        raise UserMistake(f"--gpu-memory {text}: a size like 24GiB is wanted")
    return int(float(match[1]) * _UNITS[match[2].lower()])
