"""`SupernetPredictor`: what an architecture is worth by the weights that it inherits from a supernet.

HAT's score of a candidate (arXiv 2005.14187): minus the label-smoothed validation loss in nats per target
token, on the whole validation set. Or BLEU, which costs far more.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypedDict

import numpy as np
import torch

from llmpp.architecture import Architecture
from llmpp.corpus import TOKENIZER, Corpus, file_entry
from llmpp.cpu_threads import threads
from llmpp.device import autocast, find_device, precision_notes
from llmpp.errors import InputError, PredictorError, unknown
from llmpp.raced_scorer import RacedScorer
from llmpp.recipe import NAMES, Precision
from llmpp.score_store import Score, ScoreStore, Setting
from llmpp.scoring_race import Race
from llmpp.scoring_usage import ScoringUsage
from llmpp.smoothed_loss import SMOOTHING
from llmpp.space import Encoding, Floats
from llmpp.supernet import SuperTransformer
from llmpp.translation import Quality, Translator, check_vocabulary, find_model
from llmpp.validation import ScoringBatch, ScoringSet, sentence_losses

Metric: TypeAlias = Literal["loss", "bleu"]
METRICS: tuple[Metric, ...] = ("loss", "bleu")
#: Architectures scored between two writes to the store: more share more, and a killed run loses more.
_GROUP = 32


class Beams(TypedDict):
    """Settings of beam search."""

    n_beams: int
    length_penalty: float


#: Raised when the same weights and text come to give other scores, so that kept ones are not mixed with them.
_SCORING = 1
#: For BLEU, as HAT's.
_BEAMS: Beams = {"n_beams": 4, "length_penalty": 0.6}


_RACE_NOTE = (
    "supernet: in a race, scores of all but the best candidates are estimates from a part of the text, also "
    "where they are shown as part of the front"
)


class SupernetPredictor:
    """Scores architectures by a supernet.

    Args:
        checkpoint: The directory that `llmpp train-supernet` wrote, or a supernet's file.
        corpus: The corpus that it was trained on, or its directory.
        metric: 'loss' for minus the validation loss, or 'bleu'.
        subset: The set to score on.
        race: How to race; None to score every architecture on the whole set. Rivals are all that was scored
            since `begin_search`: what cannot be among their best `n_parents` gets an estimate, which is below
            the scores of these. A search says itself how many parents it wants, and does not race if it is
            exact.
        cache: The file that scores are kept in; one in the user's cache directory by default.
        device: 'cpu', 'cuda', 'cuda:1', or 'auto' for a GPU where there is one.
        precision: 'fp32', or 'bf16' for products of matrices in bfloat16.
        n_threads: Threads of the CPU; None for torch's own number.

    Attributes:
        name: What it is called in results.
        encoding: It tells apart all that architectures differ in.
        space: The architectures that it can score.
        vocabulary: Subwords of supernet and corpus.
        keeps_scores: It keeps its scores itself, so a search that goes on may ask it about all of them; a
            race needs to hear of them.
        identity: What its scores depend on beside the architecture, as JSON.
        usage: What scoring has cost so far.
        notes: What a user should know before trusting it here.

    Raises:
        InputError: If a setting or file cannot be used, or supernet and corpus do not match.
    """

    name = "supernet"
    encoding: Encoding = "per-layer"
    keeps_scores = True

    def __init__(
        self,
        checkpoint: str | Path,
        corpus: str | Path | Corpus,
        *,
        metric: Metric = "loss",
        subset: str = "valid",
        race: Race | None = None,
        cache: str | Path | None = None,
        device: str = "auto",
        precision: Precision = "fp32",
        n_threads: int | None = None,
    ) -> None:
        if metric not in METRICS:
            raise unknown("`metric`", metric, list(METRICS))
        if precision not in NAMES["precision"]:
            raise unknown("`precision`", precision, list(NAMES["precision"]))
        if race and metric != "loss":
            raise InputError(f"a race compares losses sentence by sentence, but `metric` is {metric!r}")
        self.metric, self.race, self.precision, self.n_threads = metric, race, precision, n_threads
        self.corpus = corpus if isinstance(corpus, Corpus) else Corpus.load(corpus)
        if subset not in self.corpus.sets:
            raise unknown("set", subset, list(self.corpus.sets))
        self.subset, self.path, self.device = subset, find_model(checkpoint), find_device(device)
        self.net = SuperTransformer.load(self.path).to(self.device).eval()
        self.space, self.vocabulary = self.net.space, self.corpus.vocabulary
        _check_match(self.path, self.net, self.corpus)
        self.notes = precision_notes(self.device, precision) + ((_RACE_NOTE,) if race else ())
        self.set = ScoringSet.of(self.corpus.pairs[subset], self.device)
        self.store = ScoreStore(None if cache is None else Path(cache))
        self.setting = Setting(file_entry(self.path)["sha256"], self.corpus.hash, self._how())
        self.identity = json.dumps([self.setting.to_json(), race and asdict(race)])
        self.usage = ScoringUsage()
        self._racer = self._new_racer(race)

    def _how(self) -> dict[str, Any]:
        """What scores depend on beside checkpoint, corpus and architecture."""
        how: dict[str, Any] = {"scoring": _SCORING, "set": self.subset, "metric": self.metric}
        how |= {"precision": self.precision}
        if self.precision != "fp32":  # what bfloat16 rounds away differs more between devices
            how |= {"device": self.device.type}
        if self.metric == "bleu":
            return {**how, **_BEAMS, "sacrebleu": version("sacrebleu")}
        return {**how, "smoothing": SMOOTHING}

    def begin_search(self, n_best: int | None) -> None:
        """Makes ready for a search: in a race, the best of another search are no rivals.

        Args:
            n_best: How many of the best scores must be right; None for all.
        """
        race = None if self.race is None or n_best is None else replace(self.race, n_parents=n_best)
        self._racer = self._new_racer(race)

    def _new_racer(self, race: Race | None) -> RacedScorer | None:
        if race is None:
            return None
        # Sums of a sentence's losses differ in the last bits with the batch that it is in.
        rest = {**self.setting.rest, "blocks": [race.n_blocks, race.seed]}
        setting = replace(self.setting, rest=rest)
        return RacedScorer(race, self.set, self._losses, self.store, setting, self.usage)

    def predict(self, architectures: Sequence[Architecture]) -> Floats:
        """Scores architectures, `(n,)`, float64: minus nats per target token, or BLEU; higher is better.

        Raises:
            SpaceError: If an architecture lies outside the supernet's space.
            InputError: If scores cannot be written to the store.
            PredictorError: If a loss is not finite.
        """
        start = time.perf_counter()
        self.space.genomes(architectures)
        distinct = sorted(set(architectures), key=_order)
        with threads(self.n_threads), torch.inference_mode(), autocast(self.device, self.precision):
            scores = self._racer.predict(distinct) if self._racer else self._exact(distinct)
        self.usage.seconds += time.perf_counter() - start
        return np.array([scores[architecture] for architecture in architectures], np.float64)

    def _exact(self, architectures: list[Architecture]) -> dict[Architecture, float]:
        """Scores architectures on the whole set; those that are not in the store group by group."""
        keys = {self.setting.key(architecture): architecture for architecture in architectures}
        kept = self.store.get(keys)
        scores = {keys[key]: score.score for key, score in kept.items()}
        self.usage.count_kept(kept.values())
        left = [key for key in keys if key not in kept]
        size = _GROUP if self.metric == "loss" else 1
        for first in range(0, len(left), size):
            group = left[first : first + size]
            start = time.perf_counter()
            found = self._evaluate([keys[key] for key in group])
            seconds = (time.perf_counter() - start) / len(group)
            found = [replace(score, seconds=seconds) for score in found]
            self.store.put(
                self.setting, [(key, keys[key], score) for key, score in zip(group, found, strict=True)]
            )
            scores |= {keys[key]: score.score for key, score in zip(group, found, strict=True)}
            self.usage.n_evaluations += len(group)
        return scores

    def _evaluate(self, architectures: list[Architecture]) -> list[Score]:
        if self.metric == "bleu":
            return [Score(self._bleu(architecture)) for architecture in architectures]
        losses = self._losses(architectures, self.set.batches)
        self.usage.n_target_tokens += len(architectures) * int(self.set.n_tokens.sum())
        means = losses.sum(axis=1) / float(self.set.n_tokens.sum())
        return [
            Score(-float(mean), losses=row.astype(np.float32))
            for mean, row in zip(means, losses, strict=True)
        ]

    def _bleu(self, architecture: Architecture) -> float:
        translator = Translator(self.net.extract(architecture), self.corpus.subwords)
        texts = translator.translate(self.corpus.sources(self.subset), **_BEAMS)
        return Quality.of(texts, self.corpus.references(self.subset)).bleu

    def _losses(self, architectures: Sequence[Architecture], batches: Sequence[ScoringBatch]) -> Floats:
        """The losses of each sentence in nats, `(n_architectures, n_sentences)`."""
        # Slices take no memory; mixed weights do, and have nothing in common.
        size = max(len(architectures), 1) if self.net.mixture.kind == "plain" else 1
        found = [np.empty((0, len(self.set.n_tokens)))]
        for first in range(0, len(architectures), size):
            networks = [self.net.network(a) for a in architectures[first : first + size]]
            sums = sentence_losses(networks, batches, len(self.set.n_tokens))
            found.append(sums.cpu().numpy())
        losses = np.concatenate(found)
        if not (is_finite := np.isfinite(losses).all(axis=1)).all():
            raise PredictorError(
                f"the supernet {self.path} has a loss that is not finite, for "
                f"{architectures[int(is_finite.argmin())]}: train it again, with a smaller `peak_rate`"
            )
        return losses


def _order(architecture: Architecture) -> tuple[object, ...]:
    """Brings together what begins alike: first the encoder, layer by layer, then the decoder."""
    a = architecture
    encoder = tuple(zip(a.encoder_ffn, a.encoder_heads, strict=True))
    decoder = tuple(zip(a.decoder_heads, a.cross_heads, a.cross_span, a.decoder_ffn, strict=True))
    return a.encoder_dim, encoder, a.decoder_dim, decoder


def _check_match(path: Path, net: SuperTransformer, corpus: Corpus) -> None:
    """Checks that a supernet was trained on a corpus, as far as that can be told.

    Raises:
        InputError: If it was not.
    """
    check_vocabulary(net.sizes.vocabulary, corpus.vocabulary, path)
    own = path.with_name(TOKENIZER)
    if own.is_file() and file_entry(own) != corpus.record["files"][TOKENIZER]:
        raise InputError(
            f"{own} and that of the corpus {corpus.path} are different vocabularies of one size: "
            "use the corpus that the supernet was trained on"
        )
