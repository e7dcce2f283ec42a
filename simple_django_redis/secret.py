"""The secret key of the embedded default: made once, kept under var/, never in the repository."""

import os
import secrets
from pathlib import Path

from simple_django_redis import private_folder


def read_or_make(path: Path) -> str:
    """Return the key in `path`, making the file, readable by its owner only, if it is missing.

    Processes that do so at the same time agree on one key.
    """
    private_folder.make(path.parent)
    if not path.exists():
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(50))
        try:
            os.link(draft, path)  # Fails if there is one, where a rename would replace it.
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text()
