"""Asking a model through a real HTTP server: replies, faults, and asking again."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from werkzeug import Response

from asking import ASKED, TASK, Ask, cut, cut_short, line_of, lines, slow, status, truncated
from llmpp import InputError, LlmPredictor, MissingAnswersError, hsnas
from llmpp.endpoint import LlmSettings, RejectedError
from llmpp.llm import open_model
from stand_in import StandIn, completion, in_context


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_a_model_scores_architectures(api: str, ask: Ask, stand_in: StandIn) -> None:
    predictor = ask(api=api)
    scores = predictor.predict(ASKED)
    expected = [float(line.split()[1]) for line in in_context(stand_in.bodies[0]).splitlines()]
    assert scores.tolist() == expected
    assert len(stand_in.bodies) == 1
    assert predictor.usage.n_calls == 1
    assert predictor.usage.input_tokens == len(stand_in.prompts[0]) // 3


@pytest.mark.parametrize(
    "fault",
    [
        status(429, headers={"Retry-After": "0.05"}),
        status(429),
        status(500),
        status(503),
        slow,
        cut,
    ],
    ids=["429 with Retry-After", "429", "500", "503", "slow", "cut"],
)
def test_a_passing_fault_is_retried_by_the_sdk(fault: Any, ask: Ask, stand_in: StandIn) -> None:
    stand_in.plan = [fault]
    predictor = ask(timeout_s=0.4 if fault is slow else 5.0)
    assert len(predictor.predict(ASKED)) == 6
    assert len(stand_in.bodies) == 2
    assert predictor.usage.n_calls == 1


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (status(429), "lower `max_concurrency`"),
        (status(500), "says: Error code: 500"),
        (status(503), "503"),
        (slow, "no reply from .* within 0.3 s: raise `timeout_s`"),
        (cut, "cut the connection"),
        (truncated, "is no reply of the chat API"),
        (
            lambda _body: Response("<html>welcome</html>", content_type="text/html"),
            "is no reply of the chat API",
        ),
        (lambda _body: Response("{}", content_type="application/json"), "is no reply of the chat API"),
        (lambda _body: Response('{"choices": []}', content_type="application/json"), "is no reply"),
    ],
    ids=["429", "500", "503", "slow", "cut", "truncated", "HTML", "empty object", "no choices"],
)
def test_a_lasting_fault_keeps_the_other_answers_and_is_explained(
    fault: Any, words: str, ask: Ask, stand_in: StandIn
) -> None:
    stand_in.answer = lambda body: (
        fault(body) if "1 " + line_of(4) in body["messages"][0]["content"] else in_context(body)
    )
    predictor = ask(batch_size=2, timeout_s=0.3 if fault is slow else 5.0, max_retries=1)
    with pytest.raises(MissingAnswersError, match=words) as error:
        predictor.predict(ASKED)
    assert error.value.missing == (4, 5)
    assert "2 of 6 architectures have no answer (numbers 5, 6)" in str(error.value)
    stand_in.answer = in_context
    stand_in.bodies.clear()
    assert len(predictor_again(ask).predict(ASKED)) == 6
    assert len(stand_in.bodies) == 1


def predictor_again(ask: Ask) -> LlmPredictor:
    return ask(batch_size=2)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (
            status(400, {"error": {"message": "maximum context length is 4096"}}),
            "maximum context length.*Remedy",
        ),
        (status(401, {"error": {"message": "bad key"}}), "check OPENAI_API_KEY"),
        (status(403), "may not use this model"),
        (status(404), r"check `model` \(gpt-4.1\) and `base_url`"),
        (status(413), "lower `batch_size`"),
        (status(422), "check the settings"),
        (status(429, {"error": {"code": "insufficient_quota", "message": "pay"}}), "add credit"),
    ],
)
def test_a_refused_request_stops_at_once_and_says_what_to_do(
    fault: Any, words: str, ask: Ask, stand_in: StandIn
) -> None:
    stand_in.answer = fault
    with pytest.raises(RejectedError, match=words):
        ask(batch_size=1, max_concurrency=1, max_retries=0).predict(ASKED)
    assert len(stand_in.bodies) == 1


REFUSALS = {
    "empty": lambda body: completion("", body),
    "null": lambda body: completion("", body, content=None),
    "a refusal": lambda body: completion("", body, content=None, refusal="I cannot help with that."),
    "prose": lines("These architectures all look good to me, 25 or so."),
    "thoughts only": lines("<think>1 25.0\n2 25.0"),
    "out of range": lines("1 2.5\n2 2.5\n3 2.5\n4 2.5\n5 2.5\n6 2.5"),
}


@pytest.mark.parametrize("reply", REFUSALS.values(), ids=REFUSALS.keys())
def test_a_reply_without_answers_is_asked_again(reply: Any, ask: Ask, stand_in: StandIn) -> None:
    stand_in.plan = [reply, reply]
    predictor = ask()
    assert len(predictor.predict(ASKED)) == 6
    assert len(stand_in.bodies) == 3
    assert predictor.usage.n_calls == 3


@pytest.mark.parametrize("reply", REFUSALS.values(), ids=REFUSALS.keys())
def test_after_all_attempts_the_error_says_who_has_no_answer(reply: Any, ask: Ask, stand_in: StandIn) -> None:
    stand_in.answer = reply
    with pytest.raises(
        MissingAnswersError, match="6 .* in the last replies of gpt-4.1.*Raise `max_attempts`"
    ) as error:
        ask(max_attempts=2).predict(ASKED)
    assert error.value.missing == tuple(range(6))
    assert len(stand_in.bodies) == 2
    stand_in.answer = in_context
    assert len(ask(max_attempts=3).predict(ASKED)) == 6
    assert len(stand_in.bodies) == 3


def test_only_what_is_missing_is_asked_again(ask: Ask, stand_in: StandIn) -> None:
    stand_in.plan = [lines("1 25.5\n2 oops\n3 25.5\n4 25.5\n5 25.5\n5 25.6\n7 25.0")]
    predictor = ask()
    predictor.predict(ASKED)
    asked_again = stand_in.prompts[1].split("# Architectures to score\n")[1].splitlines()
    assert asked_again == [f"{n} {line_of(place)}" for n, place in enumerate((1, 4, 5), 1)]


def test_equal_architectures_are_asked_about_once(ask: Ask, stand_in: StandIn) -> None:
    scores = ask().predict([ASKED[0], ASKED[1], ASKED[0]])
    assert scores[0] == scores[2]
    assert "\n3 " not in stand_in.prompts[0].split("# Architectures to score")[1]


def test_samples_give_mean_and_spread(ask: Ask, stand_in: StandIn) -> None:
    stand_in.plan = [lines("\n".join(f"{n} {score}" for n in range(1, 7))) for score in (25.0, 25.2, 25.4)]
    mean, std = ask(n_samples=3).predict(ASKED, return_std=True)
    assert mean.tolist() == pytest.approx([25.2] * 6)
    assert std.tolist() == pytest.approx([0.2] * 6)
    assert len(set(stand_in.prompts)) == 1


def test_shuffled_demonstrations_differ_between_samples_and_hold_the_same(
    ask: Ask, stand_in: StandIn
) -> None:
    ask(n_samples=3, shuffle_demonstrations=True).predict(ASKED)
    shown = [
        prompt.split("# Demonstrations\n")[1].split("\n\n")[0].splitlines() for prompt in stand_in.prompts
    ]
    assert len({tuple(lines) for lines in shown}) == 3
    assert len({tuple(sorted(lines)) for lines in shown}) == 1


def test_a_spread_needs_samples(ask: Ask) -> None:
    with pytest.raises(InputError, match="`return_std` needs `n_samples` of at least 2, got 1"):
        ask().predict(ASKED, return_std=True)


def test_prompts_shrink_to_the_models_context(ask: Ask, stand_in: StandIn) -> None:
    whole = ask().survey(ASKED).open_questions()
    predictor = ask(context_tokens=len(whole[0][0].prompt) // 2)
    assert len(predictor.survey(ASKED).open_questions()) > 1
    assert len(predictor.predict(ASKED)) == 6
    with pytest.raises(InputError, match="the context of gpt-4.1 holds 100: show fewer"):
        ask(context_tokens=100).predict(ASKED)


def test_structured_replies_are_asked_for_by_schema(ask: Ask, stand_in: StandIn) -> None:
    rows = [{"number": n, "estimate": 25.0 + n / 10} for n in range(1, 7)]
    stand_in.answer = lines(json.dumps({"estimates": rows}))
    for api in ("chat", "responses"):
        assert ask(structured=True, api=api).predict(ASKED)[0] == 25.1
    assert stand_in.bodies[0]["response_format"]["json_schema"]["strict"] is True
    assert stand_in.bodies[1]["text"]["format"]["type"] == "json_schema"


def test_settings_that_are_not_set_are_not_sent(ask: Ask, stand_in: StandIn) -> None:
    ask().predict(ASKED)
    assert set(stand_in.bodies[0]) == {"model", "messages"}
    ask(temperature=0.5, max_output_tokens=700).predict(ASKED)
    assert stand_in.bodies[1]["temperature"] == 0.5
    assert stand_in.bodies[1]["max_tokens"] == 700


def test_what_is_whole_in_a_reply_that_was_cut_is_kept(ask: Ask, stand_in: StandIn) -> None:
    stand_in.plan = [cut_short("1 25.11\n2 25.22\n3 25.3")]
    predictor = ask()
    assert predictor.predict(ASKED)[:2].tolist() == [25.11, 25.22]
    assert predictor.usage.n_cut == 1
    assert len(stand_in.prompts[1].split("# Architectures to score\n")[1].splitlines()) == 4
    stand_in.plan = [cut_short('{"estimates": [{"number": 1, "estimate": 25.11}, {"number": 2, "esti')]
    assert ask(temperature=1).predict(ASKED)[0] == 25.11
    stand_in.answer = cut_short("1 25")
    with pytest.raises(
        MissingAnswersError, match=r"6 absent \(reply cut\) in the last .*`max_output_tokens`"
    ):
        ask(temperature=0.5).predict(ASKED)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"model": " "}, "`model` must name a model"),
        ({"base_url": "localhost:8080"}, "`base_url` must be an address like"),
        ({"base_url": "http://localhost:abc/v1"}, "`base_url` must be an address like"),
        ({"base_url": "http:///v1"}, "`base_url` must be an address like"),
        ({"shuffle_demonstrations": True}, "needs `n_samples` of at least 2"),
        ({"api": "completions"}, "`api` must be 'chat' or 'responses', got 'completions'"),
        ({"temperature": 3}, r"`temperature` must be in \[0, 2\], got 3"),
        ({"timeout_s": 0}, "`timeout_s` must be a positive number, got 0"),
        ({"n_samples": 0}, "`n_samples` must be an integer in 1"),
        ({"max_concurrency": 1.5}, "`max_concurrency` must be an integer"),
        ({"max_retries": -1}, "`max_retries`"),
        ({"max_output_tokens": 0}, "`max_output_tokens`"),
        ({"max_usd": -1}, "`max_usd` must be a number of at least 0, got -1"),
        ({"max_calls": -1}, "`max_calls`"),
        ({"usd_per_mtok": (1,)}, "`usd_per_mtok` must be two prices"),
        ({"usd_per_mtok": (-1, 2)}, "`usd_per_mtok` must be two prices"),
    ],
)
def test_settings_out_of_range_are_wrong(setting: dict[str, Any], words: str, ask: Ask) -> None:
    with pytest.raises(InputError, match=words):
        ask(**setting).predict(ASKED)


def test_unknown_settings_are_named(ask: Ask) -> None:
    with pytest.raises(TypeError, match="unexpected argument 'top_p'; known: api"):
        ask(top_p=1)


def test_an_address_where_nobody_listens_is_explained(ask: Ask) -> None:
    with pytest.raises(MissingAnswersError, match="cannot reach http://127.0.0.1:9/"):
        ask(base_url="http://127.0.0.1:9/v1", max_retries=0).predict(ASKED)


def test_a_model_of_ones_own_must_be_named(stand_in: StandIn, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="name the endpoint's model by `model`"):
        open_model(base_url=stand_in.url, cache=tmp_path / "c")


@pytest.mark.parametrize("status_code", [402, 405, 451])
def test_other_refusals_stop_at_once_too(status_code: int, ask: Ask, stand_in: StandIn) -> None:
    stand_in.answer = status(status_code)
    with pytest.raises(RejectedError, match="Remedy"):
        ask(batch_size=1, max_concurrency=1).predict(ASKED)
    assert len(stand_in.bodies) == 1


def test_a_refusal_of_one_request_keeps_what_others_brought(ask: Ask, stand_in: StandIn) -> None:
    stand_in.plan = [in_context, in_context, status(400)]
    outcome = ask(batch_size=2, max_concurrency=1).survey(ASKED).run()
    assert outcome.problem is not None
    assert outcome.problem.missing == (4, 5)
    assert "check the model's context length" in str(outcome.problem)
    assert outcome.answers[:4].min() > 20


def test_text_in_parts_and_lone_surrogates_are_kept(ask: Ask, stand_in: StandIn) -> None:
    answers = "\n".join(f"{n} 25.{n}" for n in range(1, 7))
    parts = [{"type": "text", "text": answers[:9]}, {"type": "text", "text": answers[9:]}]
    stand_in.plan = [lambda body: completion("", body, content=parts)]
    assert ask().predict(ASKED)[0] == 25.1
    stand_in.plan = [lambda body: completion("\ud83d\n" + answers, body)]
    assert ask(temperature=1).predict(ASKED)[0] == 25.1


def test_an_endpoint_that_keeps_sending_blanks_is_left(
    ask: Ask, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blanks(_body: dict[str, Any]) -> Response:
        def drip() -> Iterator[str]:
            for _ in range(30):
                time.sleep(0.1)
                yield " "

        return Response(drip(), content_type="application/json")

    monkeypatch.setattr("llmpp.endpoint._GRACE_S", 0.2)
    stand_in.answer = blanks
    with pytest.raises(MissingAnswersError, match="no whole reply from .* within 0.7 s"):
        ask(timeout_s=0.5, max_retries=0).predict(ASKED)


def test_predicting_works_inside_a_running_loop(ask: Ask) -> None:
    async def notebook() -> int:
        return len(ask().predict(ASKED))

    assert asyncio.run(notebook()) == 6


def test_a_task_without_figures_has_nothing_to_demonstrate(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="iwslt14.de-en has no trained architectures"):
        LlmPredictor("iwslt14.de-en", cache=tmp_path / "c")


def test_no_architectures_cost_nothing(ask: Ask, stand_in: StandIn) -> None:
    assert ask().predict([]).shape == (0,)
    assert stand_in.bodies == []


def test_a_model_serves_as_initial_and_as_baseline_of_a_search(
    ask: Ask, stand_in: StandIn, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"n_iterations": 4, "n_population": 12, "n_parents": 4, "seed": 1}
    result = hsnas.search(
        TASK, "titan-xp", {"latency_ms": 150}, baseline=ask(), run_dir=tmp_path / "run", **settings
    )
    assert result.status == "budget"
    assert len(stand_in.bodies) == 2
    content = json.loads((tmp_path / "run" / "usage.json").read_text())
    usage = content["predictors"]["gpt-4.1"]
    assert (usage["n_calls"], usage["n_cached"]) == (2, 0)
    hsnas.search(TASK, initial=ask(), **settings)
    assert len(stand_in.bodies) == 6
    hsnas.search(TASK, initial=ask(), **settings)
    assert len(stand_in.bodies) == 6


def test_the_output_limit_has_the_name_that_the_endpoint_knows() -> None:
    assert "max_completion_tokens" in LlmSettings().request("p", 5)
    assert "max_completion_tokens" in LlmSettings(base_url="https://api.openai.com/v1").request("p", 5)
    assert "max_tokens" in LlmSettings(base_url="http://localhost:8080/v1").request("p", 5)
