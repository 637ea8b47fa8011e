"""What to type where a library is not installed."""

from pathlib import Path

_HOME = Path(__file__).resolve().parents[3]  # the checkout, or what was installed of it


def how_to_install(extra: str, home: Path = _HOME) -> str:
    """The command that brings an extra of robsweep, as it is installed here.

    Args:
        home: The folder that holds `tasks/`: in a checkout, that of the project.
    """
    if (home / "pyproject.toml").is_file():
        return f"`make .venv/ready` in {home}, or `pip install -e '.[{extra}]'` there"
    return f"pip install 'robsweep[{extra}]'"
