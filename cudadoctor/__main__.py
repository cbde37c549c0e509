"""`python -m cudadoctor` is `cudadoctor`."""

from cudadoctor.cli import entry

entry()
