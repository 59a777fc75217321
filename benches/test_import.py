"""How long `import llmpp` takes in a fresh interpreter."""

import subprocess
import sys
import time

from benches.ratio import Times, write

MAX_SECONDS = 0.3
STATEMENTS = {
    "nothing": "pass",
    "numpy": "import numpy",
    "llmpp": "import llmpp",
    "hsnas": "from llmpp import hsnas",
}


def run(statement: str) -> None:
    subprocess.run([sys.executable, "-c", statement], check=True)  # noqa: S603  # our own statements


def seconds(statement: str) -> float:
    start = time.perf_counter()
    run(statement)
    return time.perf_counter() - start


def test_the_import_takes_less_than_300_ms() -> None:
    rounds = [{name: seconds(statement) for name, statement in STATEMENTS.items()} for _ in range(7)]
    times = {name: Times(tuple(taken[name] for taken in rounds)) for name in STATEMENTS}
    print("\nimport: " + ", ".join(f"{name} {taken}" for name, taken in times.items()))
    write("import", {name: taken.rounds for name, taken in times.items()})
    assert times["llmpp"].least < MAX_SECONDS
    run("import sys, llmpp; assert not {'torch', 'openai', 'polars'} & set(sys.modules)")
