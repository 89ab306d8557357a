"""Where trials are kept: a journal file that several processes append to, or a database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from trainopt.bench.lock import JournalLock
from trainopt.bench.tune import open_storage


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
