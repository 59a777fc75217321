"""What predictors are worth: error, agreement of ranks and regret on architectures trained from scratch.

A predictor is tested on the architectures that a split holds out. It gets the split's demonstrations and
answers of that split's prompts; held-out scores are kept here, out of its reach (`llmpp.exam`).
`docs/report_card.md` has the figures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmpp.answers import Answers, read_answers
from llmpp.architecture import Architecture
from llmpp.assets import asset
from llmpp.baselines import Predict
from llmpp.distill import Progress
from llmpp.errors import InputError, unknown
from llmpp.exam import Exam, set_exams
from llmpp.lineup import Lineup, line_up
from llmpp.marking import Key, NoiseCeiling, Row, interval, join, make_key, mark, measure_noise
from llmpp.ranges import integer
from llmpp.resampling import resample
from llmpp.space import Floats
from llmpp.students import Steps, Students
from llmpp.task import Task, load_task, task_names

if TYPE_CHECKING:
    import polars as pl

_FEWEST_POOL = 20


@dataclass(frozen=True)
class Live:
    """A language model that can be asked.

    Attributes:
        name: Its name.
        ask: Predicts the scores of an exam, `(n,)`.
    """

    name: str
    ask: Predict


@dataclass(frozen=True, eq=False)
class ReportCard:
    """The figures of all predictors on one task.

    Attributes:
        task: Its name.
        metric: Its metric.
        rows: One per predictor.
        against: The row that the others are compared with.
        noise_ceiling: None where a test score is missing.
        n_bootstrap: Resamples behind the intervals.
        seed: Seed of the resamples, and first seed of the students.
        splits: The splits, in the order of predictions.
        key: What each of them holds out.
        architectures: The trained architectures, from which the resamples were drawn.
    """

    task: str
    metric: str
    rows: tuple[Row, ...]
    against: str
    noise_ceiling: NoiseCeiling | None
    n_bootstrap: int
    seed: int
    splits: tuple[str, ...]
    key: Key
    architectures: tuple[Architecture, ...]

    @property
    def n_seeds(self) -> int:
        """The largest number of seeds of a row."""
        return max(row.n_seeds for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Returns the figures, None for what is not defined, ready for JSON."""
        ceiling = self.noise_ceiling
        return {
            "task": self.task,
            "metric": self.metric,
            "rows": [row.to_dict() for row in self.rows],
            "noise_ceiling": ceiling
            and {"kendall_tau": interval(ceiling.kendall_tau), "mae": interval(ceiling.mae)},
            "against": self.against,
            "n_bootstrap": self.n_bootstrap,
            "seed": self.seed,
        }

    def to_frame(self) -> "pl.DataFrame":
        """Returns one line per row: `predictor`, `mae`, `mae_low`, `mae_high`, `mae_std`, ..., `n_seeds`."""
        import polars as pl

        return pl.DataFrame([_flat(row.to_dict()) for row in self.rows], infer_schema_length=None)


def evaluate(
    task: str | Path | Task,
    *,
    live: Live | None = None,
    answers: Answers | None = None,
    n_seeds: int = 5,
    seed: int = 0,
    n_bootstrap: int = 2000,
    against: str = "line in 1/decoder layers",
    extended: bool = False,
    progress: Progress = lambda _done, _total: None,
) -> ReportCard:
    """Measures predictors on the trained architectures of a task, split by split.

    Args:
        task: A task with figures and splits. Rows that need recorded answers or supernets are left out where
            there are none.
        live: A language model to ask as well, once per split.
        answers: Answers to teach students with, and to test where they are about all that a split holds out;
            each counts for the split whose demonstrations its prompt showed. By default those that ship.
        n_seeds: Students trained per split, at least 1.
        seed: The first of their seeds, and that of the bootstrap.
        n_bootstrap: Resamples of the architectures behind each interval.
        against: The row that the others are compared with.
        extended: Whether to add what was tried beyond the plan.
        progress: Called with the number of steps done and of all steps.

    Returns:
        The card; errors are in the task's metric.

    Raises:
        InputError: If the task has no figures or splits, or there is no row `against`.
        PredictorError: If a predictor does not give one finite score per architecture.
        MissingExtraError: If scikit-learn is not installed, or torch is not and there are students to teach.
    """
    task = load_task(task)
    seeds = range(integer("seed", seed, 0, 2**32), seed + integer("n_seeds", n_seeds, 1, 1000))
    answers = answers or recorded_answers(task)
    exams = set_exams(task, answers)
    steps = Steps(len(exams), progress)
    lineup = _lineup(exams, live, answers, seeds, steps, extended=extended)
    return _grade(task, exams, lineup, steps, against=against, n_bootstrap=n_bootstrap, seed=seed)


def compare(
    task: str | Path | Task,
    predictors: Mapping[str, Predict],
    *,
    against: str,
    n_bootstrap: int = 2000,
    seed: int = 0,
    progress: Progress = lambda _done, _total: None,
) -> ReportCard:
    """Measures predictors of one's own, and no others.

    Args:
        task: A task with figures and splits.
        predictors: By the name of their row; each predicts an `Exam`, `(n,)` or `(n_seeds, n)`.
        against: The row that the others are compared with.
        n_bootstrap: Resamples of the architectures behind each interval.
        seed: Seed of the bootstrap.
        progress: Called with the number of splits done and of all splits.

    Raises:
        InputError: If the task has no figures or splits, or there is no row `against`.
        PredictorError: If a predictor does not give one finite score per architecture.
    """
    task = load_task(task)
    exams = set_exams(task, None)
    lineup, steps = Lineup(dict(predictors)), Steps(len(exams), progress)
    return _grade(task, exams, lineup, steps, against=against, n_bootstrap=n_bootstrap, seed=seed)


def _grade(
    task: Task,
    exams: Sequence[Exam],
    lineup: Lineup,
    steps: Steps,
    *,
    against: str,
    n_bootstrap: int,
    seed: int,
) -> ReportCard:
    seed, n_bootstrap = integer("seed", seed, 0, 2**32), integer("n_bootstrap", n_bootstrap, 1, 100_000)
    if against not in lineup.names:
        raise unknown("row", against, lineup.names)
    predictions = [_sit(lineup, exam, steps) for exam in exams]
    copies = resample(len(task.figures), n_bootstrap, seed=seed)
    splits = tuple(exam.split for exam in exams)
    key = make_key(task, splits, copies)
    return ReportCard(
        task=task.name,
        metric=task.metric,
        rows=mark(predictions, key, against=against),
        against=against,
        noise_ceiling=measure_noise(task, splits, key, copies),
        n_bootstrap=n_bootstrap,
        seed=seed,
        splits=splits,
        key=key,
        architectures=tuple(figures.architecture for figures in task.figures),
    )


def average(cards: Sequence[ReportCard]) -> ReportCard:
    """Averages the figures of tasks that trained the same architectures, resample by resample.

    Args:
        cards: Cards of the same settings; rows that one of them lacks are left out.

    Raises:
        InputError: If there are none, or they differ in architectures, metric or settings.
    """
    settings = [
        (one.architectures, one.metric, one.against, one.n_bootstrap, one.seed, one.n_seeds) for one in cards
    ]
    if not cards or any(some != settings[0] for some in settings):
        raise InputError(
            f"cannot average the cards of {[one.task for one in cards]}: they need the same architectures, "
            "metric and row to compare with, and the same `n_bootstrap`, `seed` and `n_seeds`"
        )
    key = join([one.key for one in cards])
    return replace(
        cards[0],
        task=", ".join(one.task for one in cards),
        rows=mark(_common_predictions(cards), key, against=cards[0].against),
        noise_ceiling=None,
        splits=tuple(f"{one.task} {split}" for one in cards for split in one.splits),
        key=key,
    )


def check_alike(tasks: Sequence[str | Path | Task]) -> None:
    """Checks before any work that the cards of tasks can be averaged.

    Raises:
        InputError: If tasks differ in metric or trained architectures, or one of them does not exist.
    """
    loaded = [load_task(task) for task in tasks]
    kinds = {(one.metric, tuple(figures.architecture for figures in one.figures)) for one in loaded}
    if len(kinds) > 1:
        raise InputError(
            f"the tasks {[one.name for one in loaded]} have no mean: they differ in metric or trained "
            "architectures. Evaluate them one by one"
        )


def _common_predictions(cards: Sequence[ReportCard]) -> list[dict[str, Floats]]:
    """Predictions of the rows that every card has, split by split."""
    of_cards = [{row.predictor: row.predictions for row in card.rows} for card in cards]
    common = [name for name in of_cards[0] if all(name in rows for rows in of_cards)]
    return [
        {name: rows[name][number] for name in common}
        for card, rows in zip(cards, of_cards, strict=True)
        for number in range(len(card.splits))
    ]


def recorded_answers(task: Task) -> Answers | None:
    """Reads the answers that ship with a task; None if none do, or the task is another of the same name.

    Answers of a split count only if the task demonstrates in it what their prompts showed.
    """
    path = asset("answers", f"{task.name}.jsonl")
    if task.name not in task_names() or not path.is_file():
        return None
    shipped, answers = load_task(task.name), read_answers(path)
    same = {
        split
        for split in task.splits or {}
        if split in (shipped.splits or {}) and _shown(task, split) == _shown(shipped, split)
    }
    rows = tuple(row for row in answers.rows if row.split in same)
    return Answers(answers.header, rows) if rows else None


def _shown(task: Task, split: str) -> list[tuple[Architecture, float]]:
    return [(figures.architecture, figures.valid_score) for figures in task.demonstrations(split)]


def _lineup(
    exams: Sequence[Exam],
    live: Live | None,
    answers: Answers | None,
    seeds: range,
    steps: Steps,
    *,
    extended: bool,
) -> Lineup:
    models: dict[str, Predict] = {}
    students = None
    if answers and all(exam.answers is not None for exam in exams):
        models[f"LLM-PP: {answers.header.get('model', 'recorded answers')}"] = _recorded
    if all(exam.pool and len(exam.pool.rows) >= _FEWEST_POOL for exam in exams):
        students = Students(seeds, steps)
    if live:
        models[f"LLM-PP live: {live.name}"] = live.ask
    others = (Students(seeds, steps, "per-layer"),) if extended and students else ()
    taught = [students, *others] if students else []
    steps.total = len(exams) * (1 + sum(one.n_steps for one in taught))
    return line_up(exams[0], models, students, others if extended else None)


def _recorded(exam: Exam) -> Floats:
    if exam.answers is None:
        raise InputError(f"there are no answers of the split {exam.split!r}")
    return exam.answers


def _sit(lineup: Lineup, exam: Exam, steps: Steps) -> dict[str, Floats]:
    predictions = lineup.sit(exam)
    steps.reach(steps.done + 1)
    return predictions


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Writes `{"mae": {"mean": 1, "low": 0}}` as `{"mae": 1, "mae_low": 0}`."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            inner = _flat(value).items()
            flat |= {
                name if key == "mean" else f"{name}_{key.removesuffix('_mean')}": it for key, it in inner
            }
        else:
            flat[name] = value
    return flat
