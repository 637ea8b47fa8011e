"""Where things lie: each setting is an environment variable and an option."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    store: Path
    data_dir: Path
    nets_dir: Path | None
    address: str
    data_dir_given: bool  # by option or variable, so that it wins over what a sweep remembers

    @classmethod
    def read(
        cls,
        store: str | None = None,
        data_dir: str | None = None,
        nets_dir: str | None = None,
        address: str | None = None,
    ) -> "Settings":
        """An option wins over its environment variable, which wins over the default."""

        def setting(given: str | None, variable: str, default: str) -> str:
            return given or os.environ.get(variable) or default

        nets = setting(nets_dir, "ROBSWEEP_NETS_DIR", "")
        return cls(
            Path(setting(store, "ROBSWEEP_STORE", "results")).expanduser().resolve(),
            Path(setting(data_dir, "ROBSWEEP_DATA_DIR", "data")).expanduser().resolve(),
            Path(nets).expanduser().resolve() if nets else None,
            setting(address, "ROBSWEEP_ADDRESS", "local"),
            bool(data_dir or os.environ.get("ROBSWEEP_DATA_DIR")),
        )
