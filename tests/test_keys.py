"""Keys: needed, checked, and in nothing but the request."""

import os
from pathlib import Path

import pytest

from asking import ASKED, TASK, Ask, status
from llmpp import LlmPredictor, hsnas
from llmpp.endpoint import RejectedError, hide_secrets
from stand_in import StandIn, in_context


def test_openai_needs_a_key_and_says_so(stand_in: StandIn, tmp_path: Path) -> None:
    predictor = LlmPredictor(TASK, cache=tmp_path / "c")
    with pytest.raises(RejectedError, match="there is no key: set OPENAI_API_KEY, or name an endpoint"):
        predictor.predict(ASKED)


@pytest.mark.parametrize("key", ["sk-secret-0123456789\x00", "sk-sécret-0123456789"])
def test_a_key_that_cannot_be_one_is_refused_without_being_shown(
    key: str, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.environ", {**os.environ, "OPENAI_API_KEY": key})
    with pytest.raises(RejectedError, match="OPENAI_API_KEY holds characters that no key has") as error:
        ask().predict(ASKED)
    assert "0123456789" not in str(error.value)


def test_white_space_around_a_key_is_no_part_of_it(
    ask: Ask, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\r\n")
    ask().predict(ASKED)
    assert stand_in.headers[0]["Authorization"] == f"Bearer {KEY}"


def test_a_short_placeholder_for_a_key_changes_no_reply(
    ask: Ask, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "2")
    expected = ask().predict(ASKED)
    assert expected.tolist() == [float(x.split()[1]) for x in in_context(stand_in.bodies[0]).splitlines()]


def test_keys_in_addresses_are_hidden() -> None:
    text = "at http://user:word@host/v1?api_key=hidden&x=1 or https://h/v1?key=hidden"
    assert hide_secrets(text) == "at http://***@host/v1?api_key=***&x=1 or https://h/v1?key=***"


KEY = "sk-secret-0123456789abcdef"


def test_the_key_appears_nowhere_but_in_the_request(
    ask: Ask,
    stand_in: StandIn,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    caplog.set_level("DEBUG")
    stand_in.plan = [lambda body: f"my key is {KEY}\n{in_context(body)}"]
    predictor = ask(batch_size=3)
    hsnas.search(
        TASK, initial=predictor, run_dir=tmp_path / "run", n_iterations=1, n_population=3, n_parents=1
    )
    assert stand_in.headers[0]["Authorization"] == f"Bearer {KEY}"
    stand_in.answer = status(401, {"error": {"message": f"Incorrect API key provided: {KEY}"}})
    with pytest.raises(RejectedError) as error:
        ask(batch_size=1, temperature=1.0).predict(ASKED)
    assert KEY not in f"{error.value!r} {error.value.__cause__} {vars(predictor.model)}"
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert written
    assert not any(KEY.encode() in content for content in written)
    assert KEY not in caplog.text
