"""The folder of the embedded default is its user's alone, also one that an earlier release has made."""

import os
import stat
from pathlib import Path

# What the store puts there. A folder with anything else in it may be somebody's home, and is left alone.
OURS = ("*.sqlite3*", "secret_key*", "redis.*", "prepare.lock", "*.stopped")


def make(folder: Path) -> None:
    """Make the folder with mode 0700, or give it this mode if nothing but the store's is in it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    is_open = found.st_mode & 0o077 and not found.st_mode & stat.S_ISVTX  # as /tmp has
    is_ours = found.st_uid == os.getuid() and is_open
    if is_ours and all(any(map(one.match, OURS)) for one in folder.iterdir()):
        folder.chmod(0o700)
