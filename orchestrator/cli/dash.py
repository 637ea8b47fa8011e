"""Starts the dashboard."""

import importlib.util
import os
import sys
from pathlib import Path
from typing import NoReturn

from robsweep.orchestrator.errors import InputError
from robsweep.orchestrator.store.store import Store
from robsweep.tasks.catalogue.code.install import how_to_install


def serve(store: Path, port: int, *, headless: bool) -> NoReturn:
    """Becomes the Streamlit app on a store; does not return.

    Raises:
        InputError: Streamlit is not installed, or the folder is no store (none at all is fine).
    """
    if importlib.util.find_spec("streamlit") is None:
        raise InputError(f"the dashboard needs Streamlit: {how_to_install('dashboard')}")
    if store.exists() and any(store.iterdir()):
        Store.open(store)
    folder = Path(__file__).parents[2] / "dashboards"
    command = [sys.executable, "-m", "streamlit", "run", str(folder / "app.py")]
    # The app has no log-in: it serves this machine only.
    command += ["--server.address", "127.0.0.1", "--server.port", str(port)]
    command += ["--server.headless", str(headless).lower(), "--browser.gatherUsageStats", "false"]
    env = {**os.environ, "ROBSWEEP_STORE": str(store)}
    os.chdir(folder)
    os.execve(sys.executable, command, env)  # one process: what stops the command stops the server
