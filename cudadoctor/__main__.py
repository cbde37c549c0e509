"""`python -m cudadoctor` is `cudadoctor`."""

from cudadoctor.cli import main

raise SystemExit(main())
