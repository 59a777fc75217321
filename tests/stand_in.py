"""A stand-in for a language model's endpoint: it speaks the API, and is no model."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from werkzeug import Request, Response

#: Turns the body of a request into a response, or into the text of a reply.
Behaviour = Callable[[dict[str, Any]], Response | str]


def prompt_of(body: dict[str, Any]) -> str:
    """The user message of a request of either API."""
    return str(body["input"] if "input" in body else body["messages"][0]["content"])


def sections_of(prompt: str) -> dict[str, list[str]]:
    """The lines of each section of a prompt."""
    _, *parts = ("\n" + prompt).split("\n# ")
    sections = (part.split("\n") for part in parts)
    return {title: [line for line in lines if line] for title, *lines in sections}


def in_context(body: dict[str, Any]) -> str:
    """Answers from the demonstrations alone: by a line in 1/decoder layers, the sixth field."""
    sections = sections_of(prompt_of(body))

    def depth(line: str) -> float:
        return 1 / float(line.split("=")[6].split(maxsplit=1)[0])

    shown = sections["Demonstrations"]
    scores = [float(line.rsplit("=", 1)[1]) for line in shown]
    design = np.array([[depth(line), 1.0] for line in shown])
    slope, offset = np.linalg.lstsq(design, np.array(scores), rcond=None)[0]
    asked = sections["Architectures to score"]
    answers = [round(float(slope * depth(line) + offset), 4) for line in asked]
    return "\n".join(f"{number} {answer}" for number, answer in enumerate(answers, 1))


def completion(text: str, body: dict[str, Any], **message: Any) -> Response:
    """A reply in the form of chat completions or responses, with tokens counted."""
    n_in, n_out = len(prompt_of(body)) // 3, len(text) // 3
    if "input" in body:
        part = {"type": "output_text", "text": text, "annotations": []}
        item = {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [part]}
        usage = {"input_tokens": n_in, "output_tokens": n_out, "total_tokens": n_in + n_out}
        content = {"id": "r", "object": "response", "created_at": 1, "model": body["model"], "output": [item]}
        content |= {"usage": usage, "status": "completed", "parallel_tool_calls": False, "tools": []}
        content |= {"tool_choice": "auto"}
    else:
        said = {"role": "assistant", "content": text, **message}
        usage = {"prompt_tokens": n_in, "completion_tokens": n_out, "total_tokens": n_in + n_out}
        choices = [{"index": 0, "message": said, "finish_reason": "stop"}]
        content = {"id": "c", "object": "chat.completion", "created": 1, "model": body["model"]}
        content |= {"choices": choices, "usage": usage}
    return Response(json.dumps(content), content_type="application/json")


@dataclass
class StandIn:
    """A server that speaks the API; it is no model.

    Attributes:
        url: Its `base_url`.
        plan: What it does to the next requests, in order; then `answer` to all further ones.
        answer: What it says otherwise.
        bodies: The bodies of all requests so far.
        headers: Their headers.
    """

    url: str
    answer: Behaviour = in_context
    plan: list[Behaviour] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def handle(self, request: Request) -> Response:
        body = json.loads(request.get_data())
        with self.lock:
            self.bodies.append(body)
            self.headers.append(dict(request.headers))
            behaviour = self.plan.pop(0) if self.plan else self.answer
        said = behaviour(body)
        return completion(said, body) if isinstance(said, str) else said

    @property
    def prompts(self) -> list[str]:
        return [prompt_of(body) for body in self.bodies]
