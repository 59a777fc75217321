"""Reading replies: every form that models write, and nothing that cannot be read with certainty."""

import json
import random
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmpp.prompt import build_prompt, decimals, read_shape
from llmpp.reply import read_reply
from llmpp.space import SPACES
from llmpp.task import Figures, Task

SHOWN = [24.0, 26.0]

FORMS = {
    "lines": "1 25.10\n2 24.5\n3 26",
    "reordered": "3 26\n1 25.10\n2 24.5",
    "colons": "1: 25.10\n2: 24.5\n3: 26",
    "dots": "1. 25.10\n2. 24.5\n3. 26",
    "brackets": "(1) 25.10\n[2] 24.5\n3) 26",
    "hashes": "#1 25.10\n#2: 24.5\n# 3 = 26",
    "dashes": "1 - 25.10\n2 -> 24.5\n3 → 26",
    "bullets": "- 1: 25.10\n* 2: 24.5\n- 3: 26",
    "bold": "**1** 25.10\n**2:** 24.5\n3: **26**",
    "a table": "| n | BLEU |\n|---|---|\n| 1 | 25.10 |\n| 2 | 24.5 |\n| 3 | 26 |",
    "a fence": "Here they are:\n```\n1 25.10\n2 24.5\n3 26\n```\nHope this helps!",
    "a heading": "# Estimates\n\n1 25.10\n\n2 24.5\n3 26\n",
    "commas": "1 25,10\n2 24,5\n3 26",
    "csv": "1,25.10\n2,24.5\n3,26.0",
    "semicolons": "1;25,10\n2;24,5\n3;26",
    "units": "1 25.10 BLEU\n2 24.5 BLEU.\n3 26 bleu",
    "more units": "1 25.10 chrF++\n2: 24.5%\n3 | 26 | SacreBLEU points |",
    "exponents": "1 2.510e1\n2: 245E-1\n3 26e+00",
    "backticks": "`1` 25.10\n2: `24.5`\n`3 26`",
    "architectures": "Architecture 1: 25.10\n- **Architecture 2:** 24.5\nARCHITECTURE #3 - 26",
    "other names": "Arch 1: 25.10\nModel 2: 24.5 BLEU\nNo. 3: 26",
    "windows": "1 25.10\r\n2 24.5\r\n3 26\r\n",
    "thoughts": "<think>1 99\nmaybe 2 1.0</think>\n1 25.10\n2 24.5\n3 26",
    "unopened thoughts": "1 24.0\n2 24.0\n</think>\n1 25.10\n2 24.5\n3 26",
    "more numbers": "1 25.10\n2 24.5\n3 26\n4 25\n0 25",
    "repeated": "1 25.10\n2 24.5\n3 26\n1 25.1",
    "the schema": '{"estimates": [{"number": 1, "estimate": 25.1}, {"number": 2, "estimate": 24.5}, '
    '{"number": 3, "estimate": 26}]}',
    "fenced JSON": '```json\n{"estimates": [{"number": 1, "estimate": 25.1}, '
    '{"number": 2, "estimate": "24,5"}, {"number": "3", "estimate": 26.0}]}\n```',
    "a mapping": '{"1": 25.1, "2": "24.5", "3": 26}',
    "an array": '[{"number": 1, "estimate": 25.1}, {"estimate": 24.5, "number": 2}, '
    '{"number": 3, "estimate": 2.6e1}]',
    "an array in prose": 'See [1]:\n```json\n[{"number": 1, "estimate": 25.1}, {"number": 2, "estimate": '
    '245e-1}, {"number": 3, "estimate": 26}]\n```',
    "an array of mappings": '[{"1": 25.1}, {"2": 24.5}, {"3": 26}]',
    "a mapping in the schema": '{"estimates": {"1": 25.1, "2": 24.5, "3": 26}}',
    "the same twice": '{"1": 25.1, "2": 24.5, "3": 26, "1": 25.10}',
    "thoughts and JSON": '<think>{"1": 5}</think>{"1": 25.1, "2": 24.5, "3": 26}',
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS.keys())
def test_every_form_of_the_answers_is_read(text: str) -> None:
    reply = read_reply(text, 3, SHOWN)
    assert reply.estimates == {1: 25.1, 2: 24.5, 3: 26.0}
    assert reply.missing == ()


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("", (1, 2, 3)),
        ("I cannot predict BLEU scores.", (1, 2, 3)),
        ("<think>1 25\n2 25\n3 25", (1, 2, 3)),
        ("1 25.1\n3 26", (2,)),
        ("1 25.1\n2 n/a\n3 26", (2,)),
        ("1 25.1\n2 24.5\n3 26\n2 24.6", (2,)),
        ("1 25.1\n2 28.01\n3 21.99", (2, 3)),
        ("1 25.1\n2 28.0\n3 22.0", ()),
        ("1 25.1\n2 -24.5\n3 nan", (2, 3)),
        ("1 25.1\n2 24.5 26.0\n3 25 to 26", (2, 3)),
        ("1 25.1\n2 1e400\n3 inf", (2, 3)),
        (
            '{"estimates": [{"number": 1, "estimate": 25}, {"number": 2}, {"number": 3, "estimate": true}]}',
            (2, 3),
        ),
        ('{"estimates": [{"number": 1, "estimate": 25.1}, 7, [3, 26]]}', (2, 3)),
        ('{"1": 25.1, "2": null', (1, 2, 3)),
        ("1 25.1\n2 24.5\n3", (3,)),
        ("1 25.1 to\n2. 25 layers\n3 25 heads", (1, 2, 3)),
        ("1,25\nModel 2.5\n3 25.1e", (1, 2, 3)),
        ('{"1": 25.1, "2": 24.5, "3": 26, "1": 24.5}', (1,)),
        ('{"estimates": [{"number": 1, "estimate": 25.1, "estimate": 24.5}]}', (1, 2, 3)),
        ('[{"number": 1, "number": 2, "estimate": 25}, {"number": 3, "estimate": 25}]', (1, 2)),
        (
            '{"estimates": [{"number": 1, "estimate": 25}], "estimates": [{"number": 1, "estimate": 26}]}',
            (1, 2, 3),
        ),
        ('{"1": 1e999, "2": Infinity, "3": ' + "9" * 5000 + "}", (1, 2, 3)),
        ('{"1.5": 25, "2": [25], "3": {"4": 25}}', (1, 2, 3)),
    ],
)
def test_what_cannot_be_read_with_certainty_is_missing(text: str, missing: tuple[int, ...]) -> None:
    reply = read_reply(text, 3, SHOWN)
    assert reply.missing == missing
    assert set(reply.estimates) | set(missing) == {1, 2, 3}


def test_the_reason_is_told_for_each_number() -> None:
    problems = read_reply("1 25.1\n2 24.5\n2 24.6\n3 99", 4, SHOWN).problems
    assert problems == {2: "contradictory", 3: "out of range", 4: "absent"}


def test_a_number_given_twice_in_json_is_contradictory() -> None:
    problems = read_reply('{"1": 25.1, "1": 24.5, "2": 25}', 2, SHOWN).problems
    assert problems == {1: "contradictory"}


@pytest.mark.parametrize("scale", [1e-5, 1e-7, 1e6, 1e12, 1e17])
def test_small_and_large_estimates_are_read(scale: float) -> None:
    values = {1: 2.5 * scale, 2: -1.25 * scale}
    shown = [-3 * scale, 3 * scale]
    rows = [{"number": number, "estimate": value} for number, value in values.items()]
    for text in (
        json.dumps(values),
        json.dumps(rows),
        json.dumps({"estimates": rows})[:-2] + ", {",
        "\n".join(f"{number} {value!r}" for number, value in values.items()),
        "\n".join(f"{number}: {value:.9f}" for number, value in values.items()),
    ):
        assert read_reply(text, 2, shown).estimates == values


def test_the_last_line_of_a_reply_that_was_cut_is_not_trusted() -> None:
    assert read_reply("1 25.1\n2 24.5\n3 25", 3, SHOWN, is_cut=True).estimates == {1: 25.1, 2: 24.5}
    assert read_reply("1 25.1\n2 24.5\n3 25\n", 3, SHOWN, is_cut=True).missing == ()


@pytest.mark.parametrize(
    "end", ["", '{"num', '{"number": 3, "estimate": 2', '{"number": 3, "estimate": 26}, oops']
)
def test_whole_entries_of_broken_json_are_read(end: str) -> None:
    text = '{"estimates": [{"number": 1, "estimate": 25.1}, {"number": 2, "estimate": "24.5"}, ' + end
    estimates = dict(read_reply(text, 3, SHOWN, is_cut=True).estimates)
    assert estimates == {1: 25.1, 2: 24.5} | ({3: 26.0} if "oops" in end else {})


def test_one_demonstration_gives_no_range_to_be_out_of() -> None:
    assert read_reply("1 900", 1, [25.0]).estimates == {1: 900.0}


def test_negative_qualities_are_read_where_the_demonstrations_are_negative() -> None:
    assert read_reply("1 -3.20\n2: -3.4\n3 | -2.9", 3, [-3.5, -2.5]).estimates == {1: -3.2, 2: -3.4, 3: -2.9}


@given(
    st.lists(st.floats(-1e4, 1e4), min_size=2, max_size=40),
    st.sampled_from(["{} {}", "{}: {}", "{}. {}", "| {} | {} |", "**{}** {}", "{}\t{}"]),
    st.booleans(),
    st.randoms(use_true_random=False),
)
@settings(deadline=None)
def test_rendering_then_reading_is_the_identity(
    scores: list[float], form: str, is_json: bool, draw: random.Random
) -> None:
    digits = decimals(scores)
    rendered = {number: f"{score:.{digits}f}" for number, score in enumerate(scores, 1)}
    order = list(rendered)
    draw.shuffle(order)
    rows = [{"number": number, "estimate": float(rendered[number])} for number in order]
    lines = [form.format(number, rendered[number]) for number in order]
    text = json.dumps({"estimates": rows}) if is_json else "\n".join(lines)
    reply = read_reply(text, len(scores), [*scores, min(scores) - 1])
    assert reply.estimates == {number: float(score) for number, score in rendered.items()}
    assert reply.missing == ()


FORMS_OF_LINES = ["{} {}", "{}: {}", "| {} | {} |", "`{}` {}", "Architecture {}: {}", "{}) {} BLEU"]
SCALES = [1e-4, 1e-2, 1.0, 30.0, 1e3, 1e5]


@st.composite
def tasks(draw: st.DrawFn) -> Task:
    """A task with figures of any scale and sign, some of them equal."""
    space = SPACES[draw(st.sampled_from(["hat-wmt", "hat-iwslt"]))]
    scale = draw(st.sampled_from(SCALES))
    scores = draw(st.lists(st.floats(-scale, scale), min_size=1, max_size=12))
    shown = zip(space.sample(len(scores), seed=draw(st.integers(0, 99))), scores, strict=True)
    figures = (Figures(place, one, score, score, 1.0, {}) for place, (one, score) in enumerate(shown))
    metric = draw(
        st.sampled_from(["BLEU", "chrF++", "COMET-22 (x = 100)", "-TER", "1 - loss"]) | st.text(max_size=8)
    )
    sizes = draw(st.integers(1, 60_000)), draw(st.integers(1, 200))
    return Task(
        "drawn", space, *sizes, metric, words=draw(st.sampled_from(["", "a task"])), figures=tuple(figures)
    )


@given(tasks(), st.integers(1, 40), st.data())
@settings(max_examples=150, deadline=None)
def test_answers_to_a_prompt_are_read_back(task: Task, n: int, data: st.DataObject) -> None:
    prompt = build_prompt(task, task.figures, task.space.sample(n), structured=data.draw(st.booleans()))
    shape = read_shape(prompt)
    scores = [figures.valid_score for figures in task.figures]
    assert shape.n == n
    assert shape.shown == tuple(float(f"{score:.{decimals(scores)}f}") for score in scores)
    inside = st.floats(min(scores), max(scores))
    answers = data.draw(st.lists(inside, min_size=n, max_size=n))
    text, expected = render(answers, decimals(scores), data)
    reply = read_reply(text, shape.n, shape.shown)
    assert dict(reply.estimates) == expected
    assert reply.missing == ()


def render(answers: list[float], digits: int, data: st.DataObject) -> tuple[str, dict[int, float]]:
    """Answers in a drawn order and form, in full or with the decimals that the prompt asks for."""
    is_full = data.draw(st.booleans())
    texts = [repr(answer) if is_full else f"{answer:.{digits}f}" for answer in answers]
    numbered = data.draw(st.permutations(list(enumerate(texts, 1))))
    expected = {number: float(text) for number, text in numbered}
    form = data.draw(st.sampled_from([*FORMS_OF_LINES, "schema", "array", "mapping"]))
    rows = [{"number": number, "estimate": value} for number, value in expected.items()]
    known: dict[str, Any] = {"schema": {"estimates": rows}, "array": rows, "mapping": expected}
    if form in known:
        return json.dumps(known[form], indent=data.draw(st.sampled_from([None, 2]))), expected
    return "\n".join(form.format(*one) for one in numbered), expected


LINES = st.lists(
    st.one_of(
        st.text(max_size=30),
        st.from_regex(r"[ |*]*[0-9]{1,3}[ .:|-]{1,3}-?[0-9]{1,3}([.,][0-9]{1,3})?", fullmatch=True),
        st.from_regex(r'[{[]{1,2}"(number|estimate|1)": ?[0-9.e"]{1,5}[]},]{0,3}', fullmatch=True),
        st.sampled_from(["<think>", "</think>", "{", "}", '{"estimates": [', "```", '"1": 2,', "[" * 5000]),
    ),
    max_size=12,
)


@given(LINES, st.integers(1, 20), st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=4))
@settings(max_examples=300, deadline=None)
def test_no_text_breaks_the_reader(lines: list[str], n: int, shown: list[float]) -> None:
    reply = read_reply("\n".join(lines), n, shown)
    assert sorted([*reply.estimates, *reply.missing]) == list(range(1, n + 1))
    assert all(abs(value) < float("inf") for value in reply.estimates.values())


@pytest.mark.parametrize("line", ["1" + " " * 20_000 + "x", "1" + "*" * 198 + "x", "1 2" + " ." * 98 + "x"])
def test_lines_of_separators_are_read_in_linear_time(line: str) -> None:
    started = time.process_time()
    assert read_reply("\n".join([line] * 2000), 1, SHOWN).missing == (1,)
    assert time.process_time() - started < 5
