#!/bin/sh
# Prolog= of slurm.conf, run as root on each node. Any exit code but 0 drains the node and holds the job:
# this one writes to the system log, and decides nothing. Slurm sets no PATH for it.
PATH=/usr/bin:/bin
/opt/cudadoctor/bin/cudadoctor check -q --no-config driver-library-mismatch driver-missing \
    driver-not-answering fabric-manager-not-running 2>&1 | logger -t cudadoctor
exit 0
