"""`python -m benchbox`: the command, where its script is not on the path."""

from benchbox.cli.commands import main

main()
