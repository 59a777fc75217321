"""The cache of replies: what a reply belongs to, and that nothing is lost."""

import json
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmpp import InputError
from llmpp.cache import Question, ReplyCache, StoredReply, default_path

QUESTION = Question("gpt-4.1", "how good?", (("temperature", 0.5),), 0)


@pytest.fixture
def cache(tmp_path: Path) -> ReplyCache:
    return ReplyCache(tmp_path / "replies.sqlite")


def test_a_reply_is_found_again_also_by_another_cache_on_the_file(cache: ReplyCache) -> None:
    reply = StoredReply("1 25.0", 100, 5)
    assert cache.get(QUESTION) is None
    assert cache.put(QUESTION, reply)
    assert cache.get(QUESTION) == reply
    assert ReplyCache(cache.path).get(QUESTION) == reply


@pytest.mark.parametrize(
    "change",
    [
        {"model": "gpt-5"},
        {"prompt": "how good? "},
        {"settings": ()},
        {"settings": (("temperature", 0.4),)},
        {"sample": 1},
    ],
)
def test_model_prompt_settings_and_sample_each_make_another_question(
    change: dict[str, Any], cache: ReplyCache
) -> None:
    cache.put(QUESTION, StoredReply("1 25.0"))
    assert cache.get(replace(QUESTION, **change)) is None


def test_the_order_of_settings_makes_no_other_question() -> None:
    one = Question("m", "p", (("a", 1), ("b", 2)))
    assert one.key == Question("m", "p", (("b", 2), ("a", 1))).key


def test_a_reply_that_is_there_stays(cache: ReplyCache) -> None:
    cache.put(QUESTION, StoredReply("first"))
    assert not cache.put(QUESTION, StoredReply("second"))
    found = cache.get(QUESTION)
    assert found is not None
    assert found.text == "first"


def test_replies_are_counted_by_model_and_settings(cache: ReplyCache) -> None:
    for sample in range(3):
        cache.put(replace(QUESTION, sample=sample), StoredReply("1 25.0", 100, 5))
    cache.put(Question("claude (version not recorded)", "p"), StoredReply("1 2"))
    rows = cache.counts()
    assert [row["n_replies"] for row in rows] == [1, 3]
    assert [row["input_tokens"] for row in rows] == [None, 300]
    assert json.loads(rows[1]["settings"]) == {"temperature": 0.5}


def test_the_file_is_in_write_ahead_mode(cache: ReplyCache) -> None:
    with sqlite3.connect(cache.path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_the_default_is_in_the_users_cache_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_path().name == "replies.sqlite"


@pytest.mark.parametrize("content", [b"no database at all, but long enough to be looked at" * 20])
def test_another_file_is_left_alone(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot use the cache .*notes.txt"):
        ReplyCache(path)
    assert path.read_bytes() == content


def test_the_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE notes (text TEXT)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(InputError, match="other.sqlite is no cache of llmpp: name another"):
        ReplyCache(path)
    assert path.read_bytes() == before


def test_a_cache_that_is_gone_is_explained(cache: ReplyCache) -> None:
    cache.put(QUESTION, StoredReply("1 25.0"))
    for path in cache.path.parent.glob("replies.sqlite*"):
        path.unlink()
    with pytest.raises(InputError, match="cannot use the cache .*no such table"):
        cache.get(QUESTION)


def test_a_directory_is_no_cache(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot use the cache"):
        ReplyCache(tmp_path)


def test_a_newer_cache_is_not_touched(cache: ReplyCache) -> None:
    with sqlite3.connect(cache.path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(InputError, match="newer version of llmpp"):
        ReplyCache(cache.path)


WRITER = """
import sys
from pathlib import Path
from llmpp.cache import Question, ReplyCache, StoredReply
path, name = sys.argv[1:]
sys.stdin.readline()
cache = ReplyCache(Path(path))
for n in range(60):
    cache.put(Question("m", f"shared {n}"), StoredReply(f"reply {n}"))
    cache.put(Question("m", f"{name} {n}"), StoredReply(f"reply {n}"))
"""


def test_processes_that_make_and_fill_one_cache_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "new" / "replies.sqlite"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), name], stdin=subprocess.PIPE, text=True)
        for name in ("a", "b", "c")
    ]
    for writer in writers:
        assert writer.stdin
        writer.stdin.write("go\n")
        writer.stdin.close()
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    rows = list(ReplyCache(path).rows())
    assert len(rows) == 60 * 4
    assert all(row["reply"] == "reply " + row["prompt"].split()[1] for row in rows)
