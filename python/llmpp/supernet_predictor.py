"""`SupernetPredictor`: what an architecture is worth by the weights that it inherits from a supernet.

HAT's score of a candidate (arXiv 2005.14187): minus the label-smoothed validation loss in nats per target
token, on the whole validation set. Or BLEU, which costs far more.
"""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray

from llmpp.architecture import Architecture
from llmpp.corpus import TOKENIZER, Corpus, file_entry
from llmpp.cpu_threads import threads
from llmpp.device import autocast, find_device, precision_notes
from llmpp.errors import InputError, unknown
from llmpp.recipe import NAMES, Precision
from llmpp.score_store import Score, ScoreStore, Setting
from llmpp.scoring_race import Finish, Race, run_race
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


#: For BLEU, as HAT's.
_BEAMS: Beams = {"n_beams": 4, "length_penalty": 0.6}


@dataclass
class ScoringUsage:
    """What scoring has cost so far.

    Attributes:
        n_evaluations: Architectures scored anew.
        n_cached: Architectures whose score was kept from before.
        seconds_cached: What those had taken, so that searches can be compared whatever was kept.
        n_dropped: Of the evaluations, those that ended early in a race.
        n_target_tokens: Target tokens scored.
        seconds: Time spent now.
    """

    n_evaluations: int = 0
    n_cached: int = 0
    seconds_cached: float = 0.0
    n_dropped: int = 0
    n_target_tokens: int = 0
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields, ready for JSON."""
        return asdict(self)


class SupernetPredictor:
    """Scores architectures by a supernet.

    Args:
        checkpoint: The directory that `llmpp train-supernet` wrote, or a supernet's file.
        corpus: The corpus that it was trained on, or its directory.
        metric: 'loss' for minus the validation loss, or 'bleu'.
        subset: The set to score on.
        race: How to race; None to score every architecture on the whole set. Rivals are all that was scored
            since `begin_search`: what cannot be among their best `n_parents` gets an estimate, which is below
            the scores of these.
        cache: The file that scores are kept in; one in the user's cache directory by default.
        device: 'cpu', 'cuda', 'cuda:1', or 'auto' for a GPU where there is one.
        precision: 'fp32', or 'bf16' for products of matrices in bfloat16.
        n_threads: Threads of the CPU; None for torch's own number.

    Attributes:
        name: What it is called in results.
        encoding: It tells apart all that architectures differ in.
        space: The architectures that it can score.
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
        self.space = self.net.space
        _check_match(self.path, self.net, self.corpus)
        self.notes = precision_notes(self.device, precision)
        self.set = ScoringSet.of(self.corpus.pairs[subset], self.device)
        self.store = ScoreStore(None if cache is None else Path(cache))
        how: dict[str, Any] = {"set": subset, "metric": metric, "precision": precision}
        how |= {"smoothing": SMOOTHING} if metric == "loss" else dict(_BEAMS)
        self.setting = Setting(file_entry(self.path)["sha256"], self.corpus.hash, how)
        self.identity = json.dumps([self.setting.to_json(), race and asdict(race)])
        self.usage = ScoringUsage()
        self._leaders: dict[Architecture, NDArray[np.float32]] = {}

    def begin_search(self) -> None:
        """Forgets who was best: in a race, the best of a search with other bounds are no rivals."""
        self._leaders = {}

    def predict(self, architectures: Sequence[Architecture]) -> Floats:
        """Scores architectures, `(n,)`, float64: minus nats per target token, or BLEU; higher is better.

        Raises:
            SpaceError: If an architecture lies outside the supernet's space.
            InputError: If scores cannot be written to the store.
        """
        start = time.perf_counter()
        self.space.genomes(architectures)
        distinct = sorted(set(architectures), key=_order)
        with threads(self.n_threads), torch.inference_mode(), autocast(self.device, self.precision):
            scores = self._raced(distinct, self.race) if self.race else self._exact(distinct)
        self.usage.seconds += time.perf_counter() - start
        return np.array([scores[architecture] for architecture in architectures], np.float64)

    def _exact(self, architectures: list[Architecture]) -> dict[Architecture, float]:
        """Scores architectures on the whole set; those that are not in the store group by group."""
        keys = {self.setting.key(architecture): architecture for architecture in architectures}
        kept = self.store.get(keys)
        scores = {keys[key]: score.score for key, score in kept.items()}
        self._count_kept(kept.values())
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
            self.usage.n_target_tokens += len(group) * int(self.set.n_tokens.sum())
        return scores

    def _evaluate(self, architectures: list[Architecture]) -> list[Score]:
        if self.metric == "bleu":
            return [Score(self._bleu(architecture)) for architecture in architectures]
        losses = self._losses(architectures, self.set.batches)
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
        return np.concatenate(found)

    def _raced(self, architectures: list[Architecture], race: Race) -> dict[Architecture, float]:
        """Races architectures against each other; those whose losses are in the store cost nothing."""
        exact = [self.setting.key(architecture) for architecture in architectures]
        leaders = [self.setting.key(architecture) for architecture in self._leaders]
        context = json.dumps([asdict(race), sorted(leaders), exact])
        estimated = [self.setting.key(architecture, context) for architecture in architectures]
        kept = self.store.get([*exact, *estimated])
        found = [kept.get(a, kept.get(b)) for a, b in zip(exact, estimated, strict=True)]
        if all(found):
            self._count_kept(score for score in found if score)
            pairs = {a: s for a, s in zip(architectures, found, strict=True) if s}
            self._lead({a: s.losses for a, s in pairs.items() if s.losses is not None}, race)
            return {a: s.score for a, s in pairs.items()}
        start = time.perf_counter()
        known = {a: kept[key].losses for a, key in zip(architectures, exact, strict=True) if key in kept}
        losses = {a: rows for a, rows in known.items() if rows is not None} | self._leaders
        rivals = [architecture for architecture in self._leaders if architecture not in set(architectures)]
        everyone = [*architectures, *rivals]
        finish = self._run(everyone, {i: losses[a] for i, a in enumerate(everyone) if a in losses}, race)
        n_new = len(architectures) - len(known)
        seconds = (time.perf_counter() - start) / max(n_new, 1)
        scored = [
            (
                exact[i] if finish.is_exact[i] else estimated[i],
                architecture,
                _score(finish, i, seconds),
            )
            for i, architecture in enumerate(architectures)
        ]
        self.store.put(self.setting, scored)
        self._count_kept(kept[key] for key in exact if key in kept)
        self.usage.n_evaluations += n_new
        self.usage.n_dropped += int((~finish.is_exact[: len(architectures)]).sum())
        rows = {a: score.losses for _, a, score in scored if score.losses is not None}
        self._lead(rows, race)
        return {architecture: score.score for _, architecture, score in scored}

    def _count_kept(self, kept: Iterable[Score]) -> None:
        for score in kept:
            self.usage.n_cached += 1
            self.usage.seconds_cached += score.seconds

    def _lead(self, losses: Mapping[Architecture, NDArray[np.float32]], race: Race) -> None:
        """Keeps the best of those scored in full."""
        together = self._leaders | dict(losses)
        best = sorted(together, key=lambda a: (float(together[a].sum(dtype=np.float64)), _order(a)))
        self._leaders = {architecture: together[architecture] for architecture in best[: race.n_parents]}

    def _run(
        self, architectures: list[Architecture], known: dict[int, NDArray[np.float32]], race: Race
    ) -> Finish:
        """Runs a race, in which the losses of some are known."""
        blocks = race.blocks(len(self.set.n_tokens))
        batches = [self.set.batches_of(block) for block in blocks]
        n_tokens = self.set.n_tokens.cpu().numpy()

        def evaluate(alive: NDArray[np.int64], number: int) -> Floats:
            block = blocks[number]
            new = [i for i in alive.tolist() if i not in known]
            rows = dict(zip(new, self._losses([architectures[i] for i in new], batches[number]), strict=True))
            self.usage.n_target_tokens += len(new) * int(n_tokens[block].sum())
            return np.array([rows[i][block] if i in rows else known[i][block] for i in alive.tolist()])

        return run_race(evaluate, len(architectures), blocks, n_tokens, race)


def _score(finish: Finish, number: int, seconds: float) -> Score:
    is_exact = bool(finish.is_exact[number])
    losses = finish.by_sentence[number].astype(np.float32) if is_exact else None
    return Score(-float(finish.losses[number]), is_exact, losses, seconds)


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
