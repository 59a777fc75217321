"""One request to an OpenAI-compatible endpoint; the one module that imports openai.

The SDK retries and times out: there is no second loop around it.
"""

import asyncio
import os
import re
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from urllib.parse import urlsplit

from llmpp.budget import Attempts
from llmpp.cache import StoredReply
from llmpp.errors import InputError, LlmError
from llmpp.ranges import between, integer, positive
from llmpp.reply import RESPONSE_SCHEMA

if TYPE_CHECKING:
    from openai import APIError, APIStatusError, AsyncOpenAI

Hooks: TypeAlias = dict[str, list[Callable[..., Any]]]

#: Stands in for a key at endpoints that need none.
_NO_KEY = "none"
_QUERY_SECRET = re.compile(
    r"([?&](?:api[-_]?key|key|token|access[-_]token|sig|code)=)[^&\s'\"]+", re.IGNORECASE
)
#: Shorter ones are placeholders for local endpoints, and may occur in any text.
_SHORTEST_KEY = 8
#: Statuses of requests that may be sent again.
_PASSING = (408, 409)
#: Seconds that a try may take beyond its silence: for sending blanks, or waiting as the endpoint asked.
_GRACE_S = 60.0


class RejectedError(LlmError):
    """The endpoint will not answer this model, key or request, however often it is asked."""


class FailedRequestError(LlmError):
    """One request has no reply after the SDK's retries."""


@dataclass(frozen=True, kw_only=True)
class LlmSettings:
    """Which model is asked, and how. The key comes from the environment variable OPENAI_API_KEY.

    Attributes:
        model: Its name at the endpoint. The paper used GPT-4.
        base_url: An OpenAI-compatible endpoint; by default OPENAI_BASE_URL, or OpenAI's own.
        api: 'chat' for chat completions, or 'responses'.
        temperature: Sampling temperature; by default the endpoint's own.
        structured: Ask for JSON by schema, where the endpoint takes one.
        n_samples: Replies per prompt.
        max_concurrency: Requests in flight.
        timeout_s: Seconds without a byte after which a try counts as lost; no try takes 60 s more than this.
        max_retries: Retries of a request that failed, by the SDK.
        max_output_tokens: Tokens of a reply, thinking included; by default the endpoint's own limit.
        context_tokens: Tokens that prompt and reply may have together; looked up by default.

    Raises:
        InputError: If a setting is out of its range.
    """

    model: str = "gpt-4.1"
    base_url: str | None = None
    api: Literal["chat", "responses"] = "chat"
    temperature: float | None = None
    structured: bool = False
    n_samples: int = 1
    max_concurrency: int = 8
    timeout_s: float = 600.0
    max_retries: int = 4
    max_output_tokens: int | None = None
    context_tokens: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.model, str) or not self.model.strip():
            raise InputError(f"`model` must name a model, got {self.model!r}")
        if self.api not in ("chat", "responses"):
            raise InputError(f"`api` must be 'chat' or 'responses', got {self.api!r}")
        if self.base_url is not None:
            _check_address(self.base_url)
        if self.temperature is not None:
            between("temperature", self.temperature, 0, 2)
        positive("`timeout_s`", self.timeout_s)
        for name, least in (("n_samples", 1), ("max_concurrency", 1), ("max_retries", 0)):
            integer(name, getattr(self, name), least, 1000)
        for name in ("max_output_tokens", "context_tokens"):
            if getattr(self, name) is not None:
                integer(name, getattr(self, name), 1, 10**9)

    @property
    def url(self) -> str | None:
        """The endpoint's address; None for OpenAI's own."""
        return self.base_url or os.environ.get("OPENAI_BASE_URL") or None

    @property
    def is_openai(self) -> bool:
        """Whether the endpoint is OpenAI's own."""
        return self.url is None or "://api.openai.com" in self.url

    def sampling(self) -> tuple[tuple[str, Any], ...]:
        """The settings that a reply depends on, beside model, prompt and sample; only those that are set."""
        settings: dict[str, Any] = {
            "api": "responses" if self.api == "responses" else None,
            "max_output_tokens": self.max_output_tokens,
            "structured": self.structured or None,
            "temperature": None if self.temperature is None else float(self.temperature),
        }
        return tuple((name, value) for name, value in settings.items() if value is not None)

    def request(self, prompt: str, max_output_tokens: int | None) -> dict[str, Any]:
        """Builds the body of a request: one user message and what is set."""
        body: dict[str, Any] = {"model": self.model}
        form = {"name": "estimates", "strict": True, "schema": RESPONSE_SCHEMA}
        if self.temperature is not None:
            body["temperature"] = self.temperature
        if self.api == "responses":
            body["input"] = prompt
            limit = "max_output_tokens"
            schema: dict[str, Any] = {"text": {"format": {"type": "json_schema", **form}}}
        else:
            body["messages"] = [{"role": "user", "content": prompt}]
            # OpenAI renamed the option; other servers know the old name.
            limit = "max_completion_tokens" if self.is_openai else "max_tokens"
            schema = {"response_format": {"type": "json_schema", "json_schema": form}}
        if max_output_tokens is not None:
            body[limit] = max_output_tokens
        return body | schema if self.structured else body


def _check_address(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        raise InputError(
            f"`base_url` must be an address like http://localhost:8080/v1, got {hide_secrets(url)!r}"
        )


class Endpoint:
    """A connection to an endpoint; an asynchronous context manager."""

    def __init__(self, settings: LlmSettings) -> None:
        self.settings = settings
        self._secret = os.environ.get("OPENAI_API_KEY", "").strip() or _NO_KEY
        self._where = hide_secrets(settings.url or "OpenAI")

    async def __aenter__(self) -> "Endpoint":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if "_client" in vars(self):
            await self._client.close()

    @cached_property
    def _client(self) -> "AsyncOpenAI":
        """The connection, made when something is asked: what is cached needs no key."""
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient

        settings = self.settings
        if self._secret == _NO_KEY and settings.url is None:
            raise RejectedError(
                "there is no key: set OPENAI_API_KEY, or name an endpoint that needs none by `base_url` "
                "(llama.cpp, vLLM, Ollama, ...)"
            )
        if not (self._secret.isascii() and self._secret.isprintable()):
            raise RejectedError("OPENAI_API_KEY holds characters that no key has: set it again")
        hooks: Hooks = {"request": [_count_request], "response": [_count_response]}
        try:
            return AsyncOpenAI(
                api_key=self._secret,
                base_url=settings.url,
                timeout=settings.timeout_s,
                http_client=DefaultAsyncHttpxClient(event_hooks=hooks),
            )
        except Exception as error:  # noqa: BLE001 - the HTTP library has many words for a wrong proxy
            text = self._clean(f"cannot make a connection to {self._where}: {error}")
            raise RejectedError(
                f"{text}. Check `base_url` and the variables HTTP_PROXY and ALL_PROXY"
            ) from None

    async def ask(
        self, prompt: str, max_output_tokens: int | None = None, attempts: Attempts | None = None
    ) -> StoredReply:
        """Sends one user message and returns the reply.

        Args:
            prompt: The message.
            max_output_tokens: The longest reply to allow; None leaves it to the endpoint.
            attempts: How often it may be sent, and where to count how often it was.

        Raises:
            RejectedError: If OpenAI is asked without a key, or the endpoint rejects key, model or request.
            FailedRequestError: If there is no usable reply after the SDK's retries.
        """
        import openai

        body = self.settings.request(prompt, max_output_tokens)
        attempts = attempts or Attempts(self.settings.max_retries + 1)
        _ATTEMPTS.set(attempts)
        try:
            client = self._client.with_options(max_retries=attempts.most - 1)
            is_chat = self.settings.api == "chat"
            sent = (client.chat.completions if is_chat else client.responses).create(**body)
            # The SDK's timeout is about silence: an endpoint that sends blanks would hold us for ever.
            longest = attempts.most * (self.settings.timeout_s + _GRACE_S)
            reply: Any = await asyncio.wait_for(sent, longest)
            return self._clean_reply(read_body(reply.to_dict(warnings=False)))
        except asyncio.TimeoutError:
            raise FailedRequestError(f"no whole reply from {self._where} within {longest:g} s") from None
        except openai.APIError as error:
            raise self._explain(error) from None
        except (ValueError, TypeError, AttributeError, LookupError) as error:
            text = f"what {self._where} sends is no reply of the {self.settings.api} API ({error!r:.200})"
            remedy = "check `base_url` (it often ends in /v1) and `api`"
            raise FailedRequestError(self._clean(f"{text}: {remedy}")) from None

    def _explain(self, error: "APIError") -> LlmError:
        """Turns the SDK's error into one that says what to do, without the key."""
        import openai

        if isinstance(error, openai.APITimeoutError):
            seconds = self.settings.timeout_s
            return FailedRequestError(f"no reply from {self._where} within {seconds:g} s: raise `timeout_s`")
        if isinstance(error, openai.APIConnectionError):
            return FailedRequestError(
                f"cannot reach {self._where}, or it cut the connection "
                f"({type(error.__cause__).__name__}): is the server running, and `base_url` right?"
            )
        if isinstance(error, openai.APIStatusError):
            return self._explain_status(error)
        return FailedRequestError(self._clean(str(error)))

    def _explain_status(self, error: "APIStatusError") -> LlmError:
        text = self._clean(f"{self._where} says: {error!s:.500}")
        remedies = {
            400: "check the model's context length (`context_tokens`, `batch_size`) and the settings",
            401: "check OPENAI_API_KEY",
            402: "add credit to the account, or use another key",
            403: "the key may not use this model",
            404: f"check `model` ({self.settings.model}) and `base_url` (it often ends in /v1)",
            413: "the prompt is too long: lower `batch_size`",
        }
        if error.code == "insufficient_quota":
            return RejectedError(f"{text}. Remedy: {remedies[402]}")
        if error.status_code == 429:
            return FailedRequestError(f"{text}. Remedy: lower `max_concurrency`, or try again later")
        if error.status_code in _PASSING or error.status_code >= 500:
            return FailedRequestError(text)
        remedy = remedies.get(error.status_code, "check the settings: the endpoint may not know one of them")
        return RejectedError(f"{text}. Remedy: {remedy}")

    def _clean_reply(self, reply: StoredReply) -> StoredReply:
        return replace(reply, text=self._clean(reply.text))

    def _clean(self, text: str) -> str:
        """Removes the key, should an endpoint repeat it, and secrets in addresses."""
        is_secret = len(self._secret) >= _SHORTEST_KEY
        return hide_secrets(text.replace(self._secret, "***") if is_secret else text)


#: The attempts of the request that this task sends: the HTTP client knows what the SDK does not tell.
_ATTEMPTS: ContextVar[Attempts] = ContextVar("_ATTEMPTS")


async def _count_request(_request: object) -> None:
    _ATTEMPTS.get().n_sent += 1


async def _count_response(response: Any) -> None:
    _ATTEMPTS.get().n_refused += response.status_code >= 400


def read_body(body: Mapping[str, Any]) -> StoredReply:
    """Reads the body of a chat completion or a response; a refusal is a reply, too.

    Raises:
        LookupError, TypeError, AttributeError: If the body is neither.
    """
    usage = body.get("usage") or {}
    if "output" in body:
        parts = [part for item in body["output"] for part in item.get("content") or ()]
        text = "".join(str(part.get("text") or part.get("refusal") or "") for part in parts)
        is_cut = body.get("status") == "incomplete"
        return StoredReply(_storable(text), usage.get("input_tokens"), usage.get("output_tokens"), is_cut)
    message = body["choices"][0]["message"]
    is_cut = body["choices"][0].get("finish_reason") == "length"
    content = message.get("content") or message.get("refusal") or ""
    if not isinstance(content, str):
        content = "".join(str(part.get("text") or "") for part in content)
    return StoredReply(_storable(content), usage.get("prompt_tokens"), usage.get("completion_tokens"), is_cut)


def _storable(text: str) -> str:
    """Replaces lone surrogates, which no file could hold."""
    return text.encode(errors="replace").decode()


def hide_secrets(text: str) -> str:
    """Takes user, password and keys out of the addresses in a text."""
    text = re.sub(r"://[^/@\s]+@", "://***@", text)
    return _QUERY_SECRET.sub(r"\1***", text)
