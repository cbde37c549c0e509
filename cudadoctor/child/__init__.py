"""What other interpreters run: the target's own. It imports nothing of this program."""
