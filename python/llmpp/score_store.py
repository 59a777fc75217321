"""Scores of architectures by a supernet, each on disk before anybody uses it, in one SQLite file."""

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmpp.architecture import Architecture
from llmpp.errors import InputError

STORE_SCHEMA = 1
#: SQLite's application_id of our files: "llps".
_APPLICATION = 0x6C6C7073

_CREATE = """
CREATE TABLE IF NOT EXISTS scores (
    key TEXT PRIMARY KEY,
    setting TEXT NOT NULL,
    architecture TEXT NOT NULL,
    score REAL NOT NULL,
    is_exact INTEGER NOT NULL,
    losses BLOB,
    seconds REAL NOT NULL,
    created TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now'))
) WITHOUT ROWID
"""


@dataclass(frozen=True)
class Score:
    """A score as kept.

    Attributes:
        score: The score; higher is better.
        is_exact: Whether it is of the whole set, not of a part on which a race was lost.
        losses: The loss of each sentence in nats `(n_sentences,)`, float32, NaN where it was not computed;
            None of a score that is not made of losses.
        seconds: What it took.
    """

    score: float
    is_exact: bool = True
    losses: NDArray[np.float32] | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Setting:
    """What a score depends on beside the architecture.

    Attributes:
        checkpoint: SHA-256 of the supernet's file.
        corpus: The hash of the corpus.
        rest: Set, metric, precision, and such.
    """

    checkpoint: str
    corpus: str
    rest: Mapping[str, Any]

    def to_json(self) -> str:
        """Writes it so that equal settings are equal texts."""
        content = {"checkpoint": self.checkpoint, "corpus": self.corpus, **self.rest}
        return json.dumps(content, sort_keys=True)

    def key(self, architecture: Architecture) -> str:
        """A digest of all that a score depends on."""
        content = [self.to_json(), architecture.to_dict()]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class ScoreStore:
    """Scores by digest, safe for several processes at once.

    Raises:
        InputError: If the file is not such a store, or was written by a newer version.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or default_path()
        with self._explained():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._connect() as connection:
                # Whoever comes second waits here for the first to have made the table.
                connection.execute("BEGIN IMMEDIATE")
                (application,) = connection.execute("PRAGMA application_id").fetchone()
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                (n_tables,) = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
                if application == version == n_tables == 0:
                    connection.execute(_CREATE)
                    connection.execute(f"PRAGMA application_id = {_APPLICATION}")
                    connection.execute(f"PRAGMA user_version = {STORE_SCHEMA}")
                    application, version = _APPLICATION, STORE_SCHEMA
        if application != _APPLICATION:
            raise InputError(f"{self.path} is no store of scores: name another by `cache`")
        if version > STORE_SCHEMA:
            raise InputError(f"{self.path} was written by a newer version of llmpp: update llmpp")

    def get(self, keys: Iterable[str]) -> dict[str, Score]:
        """Finds the scores that there are, by key."""
        sql = "SELECT score, is_exact, losses, seconds FROM scores WHERE key = ?"
        found = {}
        with self._explained(), self._connect() as connection:
            for key in keys:
                if row := connection.execute(sql, (key,)).fetchone():
                    losses = None if row[2] is None else np.frombuffer(row[2], "<f4").astype(np.float32)
                    found[key] = Score(row[0], bool(row[1]), losses, row[3])
        return found

    def put(self, setting: Setting, scored: Sequence[tuple[str, Architecture, Score]]) -> None:
        """Keeps scores, on disk before this returns; one of the whole set stays, others are replaced.

        Raises:
            InputError: If the file cannot be written.
        """
        sql = (
            "INSERT INTO scores (key, setting, architecture, score, is_exact, losses, seconds) "
            "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET score = excluded.score, "
            "is_exact = excluded.is_exact, losses = excluded.losses, seconds = excluded.seconds "
            "WHERE NOT is_exact"
        )
        rows = [
            (
                key,
                setting.to_json(),
                json.dumps(architecture.to_dict(), sort_keys=True),
                score.score,
                score.is_exact,
                None if score.losses is None else score.losses.astype("<f4").tobytes(),
                score.seconds,
            )
            for key, architecture, score in scored
        ]
        with self._explained(), self._connect() as connection:
            connection.executemany(sql, rows)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns what SQLite or the file system says into an error with a remedy."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise InputError(
                f"cannot use the scores in {self.path}: {error}. Name another file by `cache`, or mend it"
            ) from error

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        """Opens a connection whose changes are on disk when the block ends."""
        connection = sqlite3.connect(self.path, timeout=60)
        try:
            connection.execute("PRAGMA synchronous = FULL")
            with connection:
                yield connection
        finally:
            connection.close()


def default_path() -> Path:
    """The store in the user's cache directory."""
    from platformdirs import user_cache_path

    return user_cache_path("llmpp") / "scores.sqlite"
