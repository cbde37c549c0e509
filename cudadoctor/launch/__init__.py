"""Reading the launch: which program a command, a script, a compose file or a Dockerfile starts, and how."""
