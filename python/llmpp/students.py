"""Students on trial: taught anew for each split, on that split's answers about the pool alone."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from llmpp import distill
from llmpp.distill import Progress, Student
from llmpp.errors import InputError
from llmpp.exam import Exam
from llmpp.space import Encoding, Floats


@dataclass
class Steps:
    """Counts the steps of a long task and reports them.

    Attributes:
        total: Steps of the whole.
        progress: Called with the number of steps done and of all steps.
        done: Steps done.
    """

    total: int
    progress: Progress
    done: int = 0

    def reach(self, done: int) -> None:
        """Reports that `done` steps are done."""
        self.done = done
        self.progress(done, self.total)


@dataclass(eq=False)
class Students:
    """The students of one encoding, trained when a split first asks for them.

    Their size is chosen on held-out answers of the pool; no trained score has a part in it.

    Attributes:
        seeds: Seeds of the students of each split.
        steps: Where trainings are reported.
        encoding: What they see of an architecture.
    """

    seeds: range
    steps: Steps
    encoding: Encoding = "averaged"
    _taught: dict[Exam, list[Student]] = field(default_factory=dict)

    @property
    def n_steps(self) -> int:
        """Trainings for one split."""
        return len(distill.SIZES) * distill.N_FOLDS + len(self.seeds)

    def predict(self, exam: Exam) -> Floats:
        """Predicts the scores of what the exam asks about, `(n_seeds, n)`."""
        _, asked = exam.features(self.encoding)
        return np.stack([student.predict(asked) for student in self._of(exam)])

    def predict_shown(self, exam: Exam) -> Floats:
        """Predicts the scores of the demonstrations, which their lessons left out, `(n_seeds, m)`."""
        shown, _ = exam.features(self.encoding)
        return np.stack([student.predict(shown) for student in self._of(exam)])

    def _of(self, exam: Exam) -> list[Student]:
        if exam not in self._taught:
            self._taught[exam] = self._teach(exam)
        return self._taught[exam]

    def _teach(self, exam: Exam) -> list[Student]:
        if exam.pool is None:
            raise InputError(f"there are no answers of the split {exam.split!r} to teach a student with")
        before = self.steps.done
        features = exam.task.space.features(exam.pool.architectures, self.encoding)
        choice = distill.choose(
            features, exam.pool.values, progress=lambda done, _total: self.steps.reach(before + done)
        )
        taught = []
        for number, seed in enumerate(self.seeds, 1):
            taught.append(distill.fit(features, exam.pool.values, choice.hidden, seed=seed))
            self.steps.reach(before + self.n_steps - len(self.seeds) + number)
        return taught


def corrected_answers(
    students: Students, learn: Callable[[Floats, Floats, Floats], Floats], exam: Exam
) -> Floats:
    """Adds to the answers what `learn` makes of the students' errors on the demonstrations, `(n_seeds, n)`.

    The students stand in for the model, which cannot be asked about what its prompt shows.
    """
    if exam.answers is None:
        raise InputError(f"there are no answers of the split {exam.split!r} to correct")
    answers = exam.answers
    shown, asked = exam.features()
    missed = exam.shown_scores - students.predict_shown(exam)
    return np.stack([answers + learn(shown, of_seed, asked) for of_seed in missed])
