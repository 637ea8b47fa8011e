"""Starts the dashboard."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from orchestrator.errors import InputError
from orchestrator.store import Store


def serve(store: Path, port: int, *, headless: bool) -> int:
    """Runs the Streamlit app on a store until it is stopped; its exit code.

    Raises:
        InputError: Streamlit is not installed, or the folder is no store (none at all is fine).
    """
    if importlib.util.find_spec("streamlit") is None:
        raise InputError("the dashboard needs Streamlit: pip install 'robsweep[dashboard]'")
    if store.exists() and any(store.iterdir()):
        Store.open(store)
    dashboards = importlib.util.find_spec("dashboards")
    if dashboards is None or not dashboards.submodule_search_locations:
        raise InputError("the dashboards package is missing: install robsweep again")
    folder = Path(dashboards.submodule_search_locations[0])
    command = [sys.executable, "-m", "streamlit", "run", str(folder / "app.py")]
    # The app has no log-in: it serves this machine only.
    command += ["--server.address", "127.0.0.1", "--server.port", str(port)]
    command += ["--server.headless", str(headless).lower(), "--browser.gatherUsageStats", "false"]
    env = {**os.environ, "ROBSWEEP_STORE": str(store)}
    try:
        return subprocess.run(command, cwd=folder, env=env, check=False).returncode
    except KeyboardInterrupt:
        return 0
