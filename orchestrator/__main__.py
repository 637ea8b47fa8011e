"""`python -m orchestrator` is `robsweep`."""

from orchestrator.cli import main

main()
