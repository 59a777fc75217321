"""How scores rank the trained architectures: all of them, and those of one decoder depth."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from llmpp.metrics import kendall_tau
from llmpp.resampling import Estimate, estimate, resample
from llmpp.space import Floats
from llmpp.study.results import Results
from llmpp.study.task_file import score_name


@dataclass(frozen=True)
class Ranks:
    """Kendall's tau-b of some scores with validation BLEU after training.

    Attributes:
        name: Whose scores they are.
        whole: Over all architectures.
        within: Among architectures with equally many decoder layers, as the mean over these numbers: what is
            told beyond depth.
    """

    name: str
    whole: Estimate
    within: Estimate


def rank(results: Results, *, n_bootstrap: int) -> list[Ranks]:
    """Ranks what training measured beside BLEU, and supernets; needs all trainings.

    Args:
        results: What the study brought.
        n_bootstrap: Resamples of the architectures behind each interval.
    """
    found = results.first_trainings()
    trained = np.array([one["valid"]["bleu"] for one in found])
    depths = np.array([one.decoder_layers for one in results.architectures.values()], dtype=np.float64)
    copies = resample(len(trained), n_bootstrap, seed=0)
    scores = {
        "decoder layers alone": depths,
        "test BLEU of the same trainings": np.array([one["test"]["bleu"] for one in found]),
        "validation loss of the same trainings": np.array([-one["valid_loss"] for one in found]),
        **dict(_supernets(results)),
    }
    return [
        Ranks(
            name,
            estimate(kendall_tau(given, trained, copies)[None]),
            estimate(_within(depths, given, trained, copies)[None]),
        )
        for name, given in scores.items()
    ]


def _supernets(results: Results) -> Iterator[tuple[str, Floats]]:
    for kind, metric, scores in results.scores():
        given = np.array([scores[number] for number in results.architectures])
        yield f"`{score_name(kind, metric)}`", given


def _within(depths: Floats, given: Floats, trained: Floats, copies: Floats) -> Floats:
    """The mean over depths of tau-b among architectures of one, `(b,)`; NaN where no depth has one."""
    groups = [depths == depth for depth in np.unique(depths)]
    taus = np.stack([kendall_tau(given[one], trained[one], copies[:, one]) for one in groups])
    n_defined = np.isfinite(taus).sum(axis=0)
    means: Floats = np.divide(
        np.nansum(taus, axis=0), n_defined, out=np.full(taus.shape[1], np.nan), where=n_defined > 0
    )
    return means
