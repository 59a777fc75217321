"""The command in this process: how tests call it, and what it leaves."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple


class Ended(NamedTuple):
    """How a command ended: exit code, stdout, stderr."""

    code: int
    out: str
    err: str


#: Runs the command with arguments.
Command = Callable[..., Ended]

#: Flags of a search of a moment.
SHORT = ["--n-iterations", "3", "--n-population", "12", "--n-parents", "5"]


def last_line(out: str) -> dict[str, Any]:
    """The object that --json prints last."""
    content = json.loads(out.splitlines()[-1])
    assert isinstance(content, dict)
    return content
