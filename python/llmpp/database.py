"""SQLite files of our own: one table each, on disk when a change is done, for several processes at once."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from llmpp.errors import InputError

#: Waits between attempts to make a new file that another process is making, too.
_LOCKED_S = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of file.

    Attributes:
        name: What messages call it.
        application: SQLite's application_id, which tells it from other files.
        schema: The version of its table; a file of a newer one is not read.
        create: The statement that makes its table, unless it is there.
        journal: SQLite's journal mode: 'wal' for many writers on a local disk, else 'delete'.
    """

    name: str
    application: int
    schema: int
    create: str
    journal: str = "delete"


class Database:
    """A file of a kind; it is made if it is not there.

    Args:
        path: Where it is.
        kind: What it is.

    Raises:
        InputError: If the file is another one, was written by a newer version, or cannot be used.
    """

    def __init__(self, path: Path, kind: Kind) -> None:
        self.path, self.kind = path, kind
        with self._explained():
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._connect() as connection:
                (application,) = connection.execute("PRAGMA application_id").fetchone()
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                (n_tables,) = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
            is_new = application == version == n_tables == 0
            if is_new:
                self._create()
        if not is_new and application != kind.application:
            raise InputError(f"{path} is no {kind.name} of llmpp: name another by `cache`")
        if version > kind.schema:
            raise InputError(f"the {kind.name} {path} was written by a newer version of llmpp: update llmpp")

    @contextmanager
    def connected(self) -> Iterator[sqlite3.Connection]:
        """Opens a connection whose changes are on disk when the block ends; rows have names.

        Raises:
            InputError: If SQLite or the file system fails.
        """
        with self._explained(), self._connect() as connection:
            yield connection

    def _create(self) -> None:
        """Makes the table; several processes may do so at once, and SQLite may say 'locked' to some."""
        for seconds in _LOCKED_S:
            with suppress(sqlite3.OperationalError):
                return self._create_once()
            time.sleep(seconds)
        return self._create_once()

    def _create_once(self) -> None:
        with self._connect() as connection:
            connection.execute(f"PRAGMA journal_mode = {self.kind.journal}")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(self.kind.create)
            connection.execute(f"PRAGMA application_id = {self.kind.application}")
            connection.execute(f"PRAGMA user_version = {self.kind.schema}")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns what SQLite or the file system says into an error with a remedy."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise InputError(
                f"cannot use the {self.kind.name} {self.path}: {error}. Name another by `cache`, or mend it"
            ) from error

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self.path, timeout=60)
        try:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA synchronous = FULL")
            with connection:
                yield connection
        finally:
            connection.close()
