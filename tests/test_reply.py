"""Reading replies: every form that models write, and nothing that cannot be read with certainty."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmpp.prompt import decimals
from llmpp.reply import read_reply

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
    ],
)
def test_what_cannot_be_read_with_certainty_is_missing(text: str, missing: tuple[int, ...]) -> None:
    reply = read_reply(text, 3, SHOWN)
    assert reply.missing == missing
    assert set(reply.estimates) | set(missing) == {1, 2, 3}


def test_the_reason_is_told_for_each_number() -> None:
    problems = read_reply("1 25.1\n2 24.5\n2 24.6\n3 99", 4, SHOWN).problems
    assert problems == {2: "contradictory", 3: "out of range", 4: "absent"}


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


LINES = st.lists(
    st.one_of(
        st.text(max_size=30),
        st.from_regex(r"[ |*]*[0-9]{1,3}[ .:|-]{1,3}-?[0-9]{1,3}([.,][0-9]{1,3})?", fullmatch=True),
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


def test_long_lines_of_separators_are_read_in_linear_time() -> None:
    text = "\n".join("1" + " " * 20_000 + "x" for _ in range(3))
    assert read_reply(text, 1, SHOWN).missing == (1,)
