"""Reads a language model's reply: numbers of architectures and the estimates given to them.

Nothing in a reply is an error. What cannot be read with certainty counts as missing, and is asked again.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
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
#: A number as people and `json.dumps` write it.
_VALUE = r"-?[0-9]{1,30}(?:[.,][0-9]{1,30})?(?:[eE][-+]?[0-9]{1,3})?"
_NUMERAL = re.compile(_VALUE)
_CALLED = r"(?i:architecture|arch\.?|model|no\.?)[\s*#`]*"
_UNIT = r"(?i:sacrebleu|bleu|chrf(?:\+\+)?|ter|comet|scores?|points?|%)"
#: A number, a separator, an estimate with point or comma, and perhaps the metric's name ('BLEU points').
#: A '-' right before the estimate is its sign. A comma separates only where the estimate has a point.
#: No two neighbouring parts take the same character, so that no line is tried in many ways.
_LINE = re.compile(
    rf"\A[\s|*`#>(\[-]*(?:{_CALLED})?([0-9]{{1,6}})"
    rf"(?:[\s|*`:.)\]=,;>→-]+(?<=[\s|*`:)\]=;>→])|,(?=-?[0-9]+\.))({_VALUE})"
    rf"[\s|*`]*(?:[.,;][\s|*`.,;]*|(?:{_UNIT}[\s|*`.,;]*){{1,2}})?\Z"
)
_ENTRY = re.compile(rf'\{{\s*"number"\s*:\s*"?([0-9]{{1,6}})"?\s*,\s*"estimate"\s*:\s*"?({_VALUE})"?\s*\}}')
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

    Takes lines of a number and an estimate, or JSON; passes over thoughts, headings and prose.
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
    found = _json_pairs(text)
    if not found and "{" in text:
        # JSON that was cut, or has a flaw: its whole entries stand for themselves.
        found = [(int(number), _as_float(value)) for number, value in _ENTRY.findall(text)]
    if is_cut:
        text = text[: text.rfind("\n") + 1]
    # 1e400 is a number, and no estimate.
    yield from (pair for pair in found or _line_pairs(text) if math.isfinite(pair[1]))


def _as_float(numeral: str) -> float:
    return float(numeral.replace(",", "."))


def _line_pairs(text: str) -> Iterator[tuple[int, float]]:
    for line in text.splitlines():
        match = _LINE.match(line) if len(line) <= _LONGEST_LINE else None
        if match:
            yield int(match[1]), _as_float(match[2])


def _json_pairs(text: str) -> list[tuple[int, float]]:
    """Reads the outermost JSON object or, if that says nothing, the outermost array."""
    for first, last in ("{}", "[]"):
        data = _load(text[max(text.find(first), 0) : text.rfind(last) + 1])
        pairs = (_json_pair(*items) for row in _rows(data) for items in _items(row))
        if found := [pair for pair in pairs if pair]:
            return found
    return []


def _load(text: str) -> Any:
    """Parses JSON: numbers as floats, and objects as tuples of pairs, which keep a key that comes twice."""
    try:
        return json.loads(text, object_pairs_hook=tuple, parse_int=float)
    except (ValueError, RecursionError):
        return None


def _rows(data: Any) -> list[Any]:
    """Lists entries: of an array, of the schema's `estimates`, or an object that may be a mapping."""
    if isinstance(data, list):
        return data
    values = [value for key, value in data if key == "estimates"] if isinstance(data, tuple) else []
    rows = (value if isinstance(value, list) else [value] for value in values)
    return [data, *chain.from_iterable(rows)]


def _items(row: Any) -> Iterable[tuple[Any, Any]]:
    """Lists numbers and estimates of an entry of our schema, or of a mapping of numbers to estimates."""
    if not isinstance(row, tuple):
        return ()
    numbers = {_json_float(value) for key, value in row if key == "number"}
    if not numbers:
        return row
    # Of an entry with two numbers, nobody knows which is meant.
    estimates = [value for key, value in row if key == "estimate"] if len(numbers) == 1 else []
    return [(number, estimate) for number in numbers for estimate in estimates]


def _json_pair(number: Any, estimate: Any) -> tuple[int, float] | None:
    place, value = _json_float(number), _json_float(estimate)
    return None if place is None or value is None or not place.is_integer() else (int(place), value)


def _json_float(value: Any) -> float | None:
    """Reads a number, also one in quotes; None for anything else."""
    text = str(value).strip() if isinstance(value, (float, str)) else ""
    return _as_float(text) if _NUMERAL.fullmatch(text) else None
