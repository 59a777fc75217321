"""What tests of asking share: whom they ask about what, and how an endpoint can fail."""

import json
import time
from collections.abc import Callable
from typing import Any

from werkzeug import Response

from llmpp import LlmPredictor, load_task
from llmpp.prompt import describe
from stand_in import completion, in_context

TASK = load_task("wmt14.en-de")
ASKED = TASK.space.sample(6, seed=3)
FAST: dict[str, Any] = {"timeout_s": 5.0, "max_retries": 2}

#: Builds a predictor that asks the stand-in, with a cache of its own.
Ask = Callable[..., LlmPredictor]


def status(
    code: int, content: object = "no", headers: dict[str, str] | None = None
) -> Callable[..., Response]:
    return lambda _body: Response(json.dumps(content), code, headers, content_type="application/json")


def lines(text: str) -> Callable[[dict[str, Any]], str]:
    return lambda _body: text


def slow(body: dict[str, Any]) -> str:
    time.sleep(1.0)
    return in_context(body)


def cut(body: dict[str, Any]) -> Response:
    whole = completion(in_context(body), body)
    response = Response(whole.get_data()[:80], content_type="application/json")
    response.headers["Content-Length"] = str(len(whole.get_data()))
    response.automatically_set_content_length = False
    return response


def truncated(body: dict[str, Any]) -> Response:
    return Response(completion(in_context(body), body).get_data()[:80], content_type="application/json")


def line_of(place: int) -> str:
    return describe(TASK, [ASKED[place]])[0]


def cut_short(text: str) -> Callable[[dict[str, Any]], Response]:
    def answer(body: dict[str, Any]) -> Response:
        content = json.loads(completion(text, body).get_data())
        content["choices"][0]["finish_reason"] = "length"
        return Response(json.dumps(content), content_type="application/json")

    return answer
