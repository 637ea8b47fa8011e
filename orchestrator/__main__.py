"""`python -m orchestrator` is `robsweep`."""

from orchestrator.cli import main

if __name__ == "__main__":
    main()
