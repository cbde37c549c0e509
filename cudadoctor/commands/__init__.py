"""One file a command; each has `run(options) -> exit code`."""
