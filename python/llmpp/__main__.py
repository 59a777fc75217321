"""Runs the command: `python -m llmpp`."""

from llmpp.cli import main

main()
