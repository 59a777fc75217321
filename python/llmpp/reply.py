"""Reads a language model's reply: numbers of architectures and the estimates given to them.

Nothing in a reply is an error. What cannot be read with certainty counts as missing, and is asked again.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

#: The form of an answer where the endpoint takes a schema.
RESPONSE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "estimates": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"number": {"type": "integer"}, "estimate": {"type": "number"}},
                "required": ["number", "estimate"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["estimates"],
    "additionalProperties": False,
}

_THOUGHT = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)
_THOUGHT_END = re.compile(r"\A.*</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
#: A number, a separator, an estimate with point or comma, and perhaps the metric's name. A comma separates
#: only where the estimate has a point.
_LINE = re.compile(
    r"\A[\s|*#>(\[-]*([0-9]{1,6})"
    r"(?:[\s|*:.)\]=,;>-]*[\s|*:)\]=;>→]+\**(-?[0-9]{1,6}(?:[.,][0-9]{1,12})?)|,(-?[0-9]{1,6}\.[0-9]{1,12}))"
    r"[\s|*]*(?:[A-Za-z]{1,8})?[\s|*.,;]*\Z"
)
_ENTRY = re.compile(
    r'\{\s*"number"\s*:\s*"?([0-9]{1,6})"?\s*,\s*"estimate"\s*:\s*"?(-?[0-9]{1,6}(?:\.[0-9]{1,20})?)"?\s*\}'
)
#: Longer lines are no answers, and would keep the pattern busy.
_LONGEST_LINE = 200


@dataclass(frozen=True)
class Reply:
    """What a reply says.

    Attributes:
        estimates: The estimate of each architecture that has one, by its number from 1.
        problems: Why each other has none, by its number: 'absent', 'contradictory' or 'out of range'.
    """

    estimates: Mapping[int, float]
    problems: Mapping[int, str]

    @property
    def missing(self) -> tuple[int, ...]:
        """The numbers without an estimate, in order."""
        return tuple(self.problems)


def read_reply(text: str, n: int, shown: Iterable[float], *, is_cut: bool = False) -> Reply:
    """Reads the estimates of architectures 1 to `n`.

    Takes lines of a number and an estimate, or a JSON object; passes over thoughts, headings and prose.
    A number that is given two different estimates counts as missing, and so does an estimate that lies
    further outside the range of the demonstrations than that range is wide.

    Args:
        text: The reply.
        n: The number of architectures asked about.
        shown: The qualities of the demonstrations.
        is_cut: Whether it ended at the limit of its length, so that its last line may lack digits.
    """
    low, high = _plausible(list(shown))
    found: dict[int, set[float]] = {}
    for number, estimate in _pairs(_without_thoughts(text), is_cut=is_cut):
        found.setdefault(number, set()).add(estimate)
    estimates, problems = {}, {}
    for number in range(1, n + 1):
        values = found.get(number, set())
        if len(values) != 1:
            problems[number] = "contradictory" if values else "absent"
        elif not low <= min(values) <= high:
            problems[number] = "out of range"
        else:
            estimates[number] = min(values)
    return Reply(estimates, problems)


def _plausible(shown: list[float]) -> tuple[float, float]:
    """The range of the demonstrations, widened by its width on both sides."""
    low, high = min(shown, default=-math.inf), max(shown, default=math.inf)
    width = high - low
    return (low - width, high + width) if width > 0 else (-math.inf, math.inf)


def _without_thoughts(text: str) -> str:
    """Drops `<think>` passages, also those that were not opened or not closed."""
    return _THOUGHT_END.sub("", _THOUGHT.sub("", text))


def _pairs(text: str, *, is_cut: bool) -> Iterator[tuple[int, float]]:
    found = list(_json_pairs(text))
    if not found and "{" in text:
        # JSON that was cut, or has a flaw: its whole entries stand for themselves.
        found = [(int(number), float(value)) for number, value in _ENTRY.findall(text)]
    if is_cut:
        text = text[: text.rfind("\n") + 1]
    yield from found or _line_pairs(text)


def _line_pairs(text: str) -> Iterator[tuple[int, float]]:
    for line in text.splitlines():
        match = _LINE.match(line) if len(line) <= _LONGEST_LINE else None
        if match:
            yield int(match[1]), float((match[2] or match[3]).replace(",", "."))


def _json_pairs(text: str) -> Iterator[tuple[int, float]]:
    """Reads the outermost JSON object: our schema, or a mapping of numbers to estimates."""
    start, end = text.find("{"), text.rfind("}")
    try:
        data = json.loads(text[start : end + 1]) if start >= 0 else None
    except (ValueError, RecursionError):
        return
    if not isinstance(data, dict):
        return
    rows = data.get("estimates")
    entries = rows if isinstance(rows, list) else [{"number": k, "estimate": v} for k, v in data.items()]
    for entry in entries:
        pair = _json_pair(entry)
        if pair:
            yield pair


def _json_pair(entry: Any) -> tuple[int, float] | None:
    if not isinstance(entry, dict) or isinstance(entry.get("estimate"), bool):
        return None
    number, estimate = str(entry.get("number")).strip(), str(entry.get("estimate")).strip().replace(",", ".")
    if not re.fullmatch(r"[0-9]{1,6}", number) or not re.fullmatch(r"-?[0-9]{1,6}(\.[0-9]{1,20})?", estimate):
        return None
    return int(number), float(estimate)
