"""Writing a file whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write(path: str | os.PathLike[str], content: str | bytes) -> Path:
    """Write all of `content` to `path`, or leave the file as it was.

    Args:
        path: where to write; its folder is made where it is missing.
        content: text (written as UTF-8) or bytes.

    Returns:
        The path.

    Raises:
        OSError: the folder or the file cannot be written.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        # mkstemp makes a private file; a result gets the permissions of the user's other files.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise
    return target


def check_folder(path: str | os.PathLike[str]) -> Path:
    """Make the folder and check that files can be written in it, before anything is measured.

    Raises:
        OSError: it cannot be made, or cannot be written.
    """
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(prefix=".tdjax-", dir=folder):
        return folder
