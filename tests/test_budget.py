"""Money: budgets that are never passed, prices, and nothing that is paid twice."""

import json
from pathlib import Path
from typing import Any

import pytest
from werkzeug import Response

from asking import ASKED, TASK, Ask, cut_short, lines, slow, status
from llmpp import InputError, LlmError, MissingAnswersError
from llmpp.llm import open_model
from stand_in import StandIn, completion, in_context


def test_answers_are_paid_once(ask: Ask, stand_in: StandIn) -> None:
    first = ask(batch_size=2)
    second = ask(batch_size=2, usd_per_mtok=(1, 2))
    assert first.predict(ASKED).tolist() == second.predict(ASKED).tolist()
    assert len(stand_in.bodies) == 3
    usage = second.usage
    assert (usage.n_calls, usage.n_cached, usage.input_tokens, usage.usd) == (0, 3, 0, 0)
    assert usage.cached_input_tokens == first.usage.input_tokens > 0
    tokens = first.usage.input_tokens, first.usage.output_tokens
    assert usage.cached_usd == pytest.approx((tokens[0] + 2 * tokens[1]) / 1e6)


@pytest.mark.parametrize(
    ("budget", "n_calls"),
    [({"max_calls": 2}, 2), ({"max_calls": 0}, 0), ({"max_usd": 0.0}, 0), ({"max_tokens_total": 10}, 0)],
)
def test_a_budget_stops_before_it_is_passed(
    budget: dict[str, Any], n_calls: int, ask: Ask, stand_in: StandIn
) -> None:
    predictor = ask(batch_size=1, usd_per_mtok=(2, 8), **budget)
    with pytest.raises(MissingAnswersError, match="could pass the budget; raise it to go on"):
        predictor.predict(ASKED)
    assert len(stand_in.bodies) == predictor.usage.n_calls == n_calls
    assert len(ask(batch_size=1).predict(ASKED)) == 6
    assert len(stand_in.bodies) == 6


@pytest.mark.parametrize("max_concurrency", [1, 8])
def test_dollars_and_tokens_are_never_passed(max_concurrency: int, ask: Ask, stand_in: StandIn) -> None:
    architectures = TASK.space.sample(40, seed=5)
    budgets: list[dict[str, float]] = [{"max_usd": 0.05}, {"max_tokens_total": 25_000}]
    for number, budget in enumerate(budgets):
        stand_in.bodies.clear()
        predictor = ask(
            batch_size=1,
            temperature=number / 2,
            usd_per_mtok=(2, 8),
            max_concurrency=max_concurrency,
            **budget,
        )
        with pytest.raises(MissingAnswersError, match="could pass the budget"):
            predictor.predict(architectures)
        usage = predictor.usage
        assert usage.usd is not None
        assert 5 <= usage.n_calls < 40
        assert usage.usd <= budget.get("max_usd", 1.0)
        assert usage.input_tokens + usage.output_tokens <= budget.get("max_tokens_total", 1e9)
        assert {body["max_tokens"] for body in stand_in.bodies} <= {74, 74 + 8192}


def test_retries_count_against_the_number_of_calls(ask: Ask, stand_in: StandIn) -> None:
    stand_in.answer = status(503)
    predictor = ask(batch_size=1, max_calls=4, max_retries=2, max_concurrency=2)
    with pytest.raises(
        MissingAnswersError, match="2 requests failed.*; the next request could pass the budget"
    ):
        predictor.predict(ASKED)
    usage = predictor.usage
    assert len(stand_in.bodies) == usage.n_failed + usage.n_retries == 4
    stand_in.plan, stand_in.answer = [status(503), status(429)], in_context
    predictor = ask(batch_size=6, max_calls=3, max_retries=2)
    assert len(predictor.predict(ASKED)) == 6
    assert (predictor.usage.n_calls, predictor.usage.n_retries) == (1, 2)


def test_at_temperature_zero_a_useless_reply_is_not_paid_for_again(ask: Ask, stand_in: StandIn) -> None:
    stand_in.answer = lines("no")
    with pytest.raises(MissingAnswersError):
        ask(temperature=0).predict(ASKED)
    assert len(stand_in.bodies) == 1


def test_what_may_be_on_the_bill_counts_against_the_budget(ask: Ask, stand_in: StandIn) -> None:
    stand_in.answer = slow
    predictor = ask(batch_size=3, max_retries=0, timeout_s=0.2, max_tokens_total=8_000, max_concurrency=1)
    with pytest.raises(MissingAnswersError):
        predictor.predict(ASKED)
    assert predictor.usage.n_failed == 1
    assert predictor.model.is_stopped


def test_dollars_need_a_price(ask: Ask) -> None:
    with pytest.raises(
        InputError, match="`max_usd` needs a price, and that of 'mine' is unknown: give it as"
    ):
        ask(model="mine", max_usd=1.0)


def test_prices_of_openai_are_known_and_of_unknown_endpoints_not(stand_in: StandIn, tmp_path: Path) -> None:
    known = open_model(cache=tmp_path / "c", max_usd=1.0)
    assert known.price is not None
    assert (known.price.input, known.price.output) == (2.0, 8.0)
    assert known.context_tokens == 1_000_000
    unknown = open_model(cache=tmp_path / "c", base_url=stand_in.url, model="gpt-4.1")
    assert unknown.price is None
    assert unknown.usage.usd is None


def test_a_reply_that_the_budget_cut_is_asked_for_again_without_one(ask: Ask, stand_in: StandIn) -> None:
    stand_in.plan = [cut_short("<think>so many")]
    limited: dict[str, Any] = {"max_tokens_total": 30_000, "max_attempts": 1}
    with pytest.raises(MissingAnswersError):
        ask(**limited).predict(ASKED)
    with pytest.raises(MissingAnswersError):
        ask(**limited).predict(ASKED)
    assert len(stand_in.bodies) == 1
    assert len(ask(max_attempts=1).predict(ASKED)) == 6
    assert len(stand_in.bodies) == 2


def test_more_samples_ask_only_for_the_new_ones(ask: Ask, stand_in: StandIn) -> None:
    stand_in.plan = [lines("nothing")]
    ask().predict(ASKED)
    assert len(stand_in.bodies) == 2
    ask(n_samples=2).predict(ASKED)
    assert len(stand_in.bodies) == 3


def test_tokens_that_are_not_counted_are_said_to_be_bounds(ask: Ask, stand_in: StandIn) -> None:
    def uncounted(body: dict[str, Any]) -> Response:
        content = json.loads(completion(in_context(body), body).get_data())
        del content["usage"]
        return Response(json.dumps(content), content_type="application/json")

    stand_in.answer = uncounted
    predictor = ask()
    predictor.predict(ASKED)
    assert predictor.usage.n_uncounted == 1
    assert predictor.usage.input_tokens >= len(stand_in.prompts[0])


def test_a_cache_that_cannot_be_written_stops_before_more_is_paid(
    ask: Ask, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = ask(batch_size=1, max_concurrency=1)

    def fail(*_arguments: object) -> bool:
        raise InputError("disk is full")

    monkeypatch.setattr(predictor.model.cache, "put", fail)
    with pytest.raises(LlmError, match="replies cannot be kept: disk is full"):
        predictor.predict(ASKED)
    assert len(stand_in.bodies) == 1


def test_what_the_budget_kept_back_is_said_also_after_asking_again(ask: Ask, stand_in: StandIn) -> None:
    stand_in.plan = [lines("1 25.5\n2 oops")]
    with pytest.raises(MissingAnswersError, match="could pass the budget") as error:
        ask(batch_size=2, max_calls=2, max_concurrency=1, max_retries=0).predict(ASKED)
    assert error.value.missing == (1, 4, 5)
