"""`python -m robsweep` is `robsweep`."""

from robsweep.orchestrator.cli.main import main

if __name__ == "__main__":
    main()
