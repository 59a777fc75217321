"""Scores of architectures by a supernet, each on disk before anybody uses it, in one SQLite file."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmpp.architecture import Architecture
from llmpp.database import Database, Kind

_KIND = Kind(
    name="store of scores",
    application=0x6C6C7073,  # "llps"
    schema=1,
    create="""
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
""",
)


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
        self._database = Database(self.path, _KIND)

    def get(self, keys: Iterable[str]) -> dict[str, Score]:
        """Finds the scores that there are, by key."""
        sql = "SELECT score, is_exact, losses, seconds FROM scores WHERE key = ?"
        found = {}
        with self._database.connected() as connection:
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
        with self._database.connected() as connection:
            connection.executemany(sql, rows)


def default_path() -> Path:
    """The store in the user's cache directory."""
    from platformdirs import user_cache_path

    return user_cache_path("llmpp") / "scores.sqlite"
