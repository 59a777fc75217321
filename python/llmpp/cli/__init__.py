"""The command `llmpp`: its verbs, and what each kind of error exits with."""

import sys
from importlib.metadata import version as package_version
from typing import Annotated, NoReturn

import typer

from llmpp.cli import (
    asking,
    evaluating,
    fitting,
    listing,
    measuring,
    preparing,
    searching,
    studying,
    training,
    translating,
)
from llmpp.cli.console import FAILED, INTERRUPTED, WRONG_USE, fail, out
from llmpp.errors import InputError, MissingExtraError, PredictorError, ShapeError, SpaceError, TrainingError

app = typer.Typer(
    help="Neural architecture search in which a language model predicts how good an architecture is.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for verb in (
    searching.search,
    searching.frontier,
    searching.cost,
    asking.predict,
    asking.label,
    asking.check,
    fitting.distill,
    measuring.measure,
    fitting.fit_latency,
    preparing.prepare,
    training.train_supernet,
    training.train,
    translating.translate,
    translating.export,
    translating.convert_hat,
    evaluating.evaluate,
    listing.tasks,
    listing.hardware,
):
    app.command(verb.__name__.replace("_", "-"))(verb)
app.add_typer(asking.cache, name="cache")
app.add_typer(studying.study, name="study")


def main() -> NoReturn:
    """Runs the command and exits with 0 done, 1 failed, 2 wrong use, 3 infeasible, 130 interrupted."""
    try:
        sys.exit(app(prog_name="llmpp", standalone_mode=True))
    except (InputError, SpaceError, ShapeError) as error:
        fail(error, WRONG_USE)
    except (PredictorError, TrainingError, MissingExtraError) as error:
        fail(error, FAILED)
    except KeyboardInterrupt:
        fail("interrupted", INTERRUPTED)


def _version(value: bool) -> None:  # noqa: FBT001 - the form of a typer callback
    if value:
        out.print(package_version("llmpp"))
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Takes the options before the verb."""
