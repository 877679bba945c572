"""What `tdjax[compare]` installs, asked for only when it is used."""

from __future__ import annotations

import importlib.util


def need(package: str, purpose: str) -> None:
    """Raise ImportError, with how to install it, unless the package is there."""
    if importlib.util.find_spec(package) is None:
        raise ImportError(
            f"{package} is needed for {purpose} and is not installed. "
            'Install it: pip install "tdjax[compare]"'
        )
