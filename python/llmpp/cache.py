"""The cache of replies: an SQLite file into which every reply goes before anything reads it."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmpp.database import Database, Kind

_KIND = Kind(
    name="cache",
    application=0x6C6C7070,  # "llpp"
    schema=1,
    journal="wal",
    create="""
CREATE TABLE IF NOT EXISTS replies (
    key TEXT PRIMARY KEY,
    model TEXT NOT NULL,
    settings TEXT NOT NULL,
    sample INTEGER NOT NULL,
    prompt TEXT NOT NULL,
    reply TEXT NOT NULL,
    input_tokens INTEGER,
    output_tokens INTEGER,
    is_cut INTEGER NOT NULL,
    source TEXT NOT NULL,
    created TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now'))
) WITHOUT ROWID
""",
)


@dataclass(frozen=True)
class Question:
    """What a reply belongs to.

    Attributes:
        model: The model's name.
        prompt: The whole user message.
        settings: Sampling settings that were sent, none of those that were not.
        sample: The number of the sample, from 0.
    """

    model: str
    prompt: str
    settings: tuple[tuple[str, Any], ...] = ()
    sample: int = 0

    @property
    def key(self) -> str:
        """A digest of all that the reply depends on."""
        content = [self.model, [["user", self.prompt]], dict(self.settings), self.sample]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class StoredReply:
    """A reply as kept.

    Attributes:
        text: The reply.
        input_tokens: Tokens of the prompt, if known.
        output_tokens: Tokens of the reply, thinking included, if known.
        is_cut: Whether it ended at the limit of its length.
        source: 'api', or what it was imported from.
    """

    text: str
    input_tokens: int | None = None
    output_tokens: int | None = None
    is_cut: bool = False
    source: str = "api"


class ReplyCache:
    """Replies by question, safe for several processes at once.

    Raises:
        InputError: If the file is not such a cache, or was written by a newer version.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or default_path()
        self._database = Database(self.path, _KIND)

    def get(self, question: Question) -> StoredReply | None:
        """Finds a reply."""
        sql = "SELECT reply, input_tokens, output_tokens, is_cut, source FROM replies WHERE key = ?"
        with self._database.connected() as connection:
            row = connection.execute(sql, (question.key,)).fetchone()
        return StoredReply(row[0], row[1], row[2], bool(row[3]), row[4]) if row else None

    def put(self, question: Question, reply: StoredReply) -> bool:
        """Keeps a reply, on disk before this returns; one that is there already stays.

        Returns:
            Whether it is new.

        Raises:
            InputError: If the file cannot be written.
        """
        row = (
            question.key,
            question.model,
            json.dumps(dict(question.settings), sort_keys=True),
            question.sample,
            question.prompt,
            reply.text,
            reply.input_tokens,
            reply.output_tokens,
            reply.is_cut,
            reply.source,
        )
        sql = (
            "INSERT OR IGNORE INTO replies (key, model, settings, sample, prompt, reply, input_tokens, "
            "output_tokens, is_cut, source) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        )
        with self._database.connected() as connection:
            return connection.execute(sql, row).rowcount > 0

    def counts(self) -> list[Mapping[str, Any]]:
        """Counts replies and tokens by model and settings."""
        sql = (
            "SELECT model, settings, COUNT(*) AS n_replies, SUM(input_tokens) AS input_tokens, "
            "SUM(output_tokens) AS output_tokens, MIN(created) AS first, MAX(created) AS last "
            "FROM replies GROUP BY model, settings ORDER BY model, settings"
        )
        with self._database.connected() as connection:
            return [dict(row) for row in connection.execute(sql)]

    def rows(self) -> Iterator[Mapping[str, Any]]:
        """Lists every reply with its question, oldest first."""
        with self._database.connected() as connection:
            for row in connection.execute("SELECT * FROM replies ORDER BY created, key"):
                yield dict(row)


def default_path() -> Path:
    """The cache in the user's cache directory."""
    from platformdirs import user_cache_path

    return user_cache_path("llmpp") / "replies.sqlite"
