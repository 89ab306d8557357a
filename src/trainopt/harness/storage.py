"""Where trials are kept: a journal file that several processes append to, or a database."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from trainopt.errors import InputError
from trainopt.harness.lock import JournalLock
from trainopt.harness.secrets import shown, without_secrets

# What databases say when two processes make their tables at the same moment.
_MAKING = re.compile("already exists|unique constraint|duplicate key|is locked", re.IGNORECASE)


def open_storage(url: str, patience: int = 10) -> Any:
    """Open an Optuna storage, such as sqlite:///file.db or postgresql://user@host/database.

    Args:
        url: of the storage.
        patience: seconds to wait while another process makes the tables of an empty database.

    Raises:
        InputError: the URL can't be used, or nothing answers there.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.storages.get_storage(url)
    except Exception as error:  # each database driver raises its own kinds
        reason = " ".join(str(error).split())
        if patience and _MAKING.search(reason):
            time.sleep(1.0)
            return open_storage(url, patience - 1)
        reason = without_secrets(reason, url)
        raise InputError(
            f"The storage {shown(url)} can't be opened ({reason}): check the URL."
        ) from None  # what the driver says may hold the password


def shared_storage(url: str | None, folder: Path) -> Any:
    """The storage at `url`, or the journal in `folder`.

    Args:
        url: such as postgresql://user@host/database, for several machines; None for the journal.
        folder: of the results.

    Raises:
        InputError: the URL can't be used, or nothing answers there.
    """
    if url is not None:
        return open_storage(url)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = str(folder / "trials.log")
    return JournalStorage(JournalFileBackend(path, lock_obj=JournalLock(path)))
