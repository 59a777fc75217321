"""Translating: one decoder step at a time on a key-value cache, and beam search over it.

The beams of a sentence are the queries of one attention over its source, so neither the source's keys nor its
values are ever copied per beam.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from llmpp.errors import InputError
from llmpp.network import Encoded, Network, affine
from llmpp.ranges import between, integer
from llmpp.special_tokens import EOS
from llmpp.transformer import Transformer

#: Where no length is given, a translation has at most this many tokens for each of the source, and some more.
_LENGTH_RATIO, _LENGTH_MARGIN = 2, 10


@dataclass(frozen=True, eq=False)
class Cache:
    """What a decoder remembers between steps; each field has one entry per layer.

    Attributes:
        past: Keys and values of the tokens so far `(sentences * beams, length, 2, heads, width)`.
        cross: Keys and values of the source, each `(sentences, heads, span * source length, width)`.
        masks: Which of those may be attended to `(sentences, 1, 1, span * source length)`.
    """

    past: tuple[Tensor, ...]
    cross: tuple[tuple[Tensor, ...], ...]
    masks: tuple[Tensor, ...]

    @property
    def length(self) -> int:
        """The number of tokens so far."""
        return self.past[0].shape[1]

    def reorder(self, rows: Tensor) -> "Cache":
        """Continues the given beams `(sentences * beams,)`, which stay within their sentences."""
        return replace(self, past=tuple(past.index_select(0, rows) for past in self.past))

    def keep(self, sentences: Tensor) -> "Cache":
        """Keeps the source of the given sentences `(n,)`; their beams are for `reorder`."""
        cross = tuple(tuple(part.index_select(0, sentences) for part in parts) for parts in self.cross)
        return replace(self, cross=cross, masks=tuple(m.index_select(0, sentences) for m in self.masks))


def start(network: Network, encoded: Encoded, n_beams: int = 1) -> Cache:
    """Prepares for `step`: computes keys and values of the source, once for all steps and beams."""
    past, cross, masks = [], [], []
    for layer in network.decoder.layers:
        memory, mask = encoded.last(layer.cross.span)
        keys, values = network.cross_heads(memory, layer.cross)
        n, heads = memory.shape[0], layer.attention.n_heads
        width = keys.shape[1] * keys.shape[3] // heads
        past.append(keys.new_empty(n * n_beams, 0, 2, heads, width))
        cross.append((keys, values))
        masks.append(mask)
    return Cache(tuple(past), tuple(cross), tuple(masks))


def step(network: Network, tokens: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
    """Computes the logits of the next token of each beam.

    Args:
        network: The network.
        tokens: The newest token of each beam `(sentences, beams)`, int64.
        cache: What was remembered of the tokens before it; it is left as it is.

    Returns:
        Logits `(sentences, beams, vocabulary)`, and the cache with the new tokens in it.

    Raises:
        InputError: If the table of positions has ended.
    """
    place = cache.length + 1
    if place >= len(network.decoder.positions):
        raise InputError(
            f"token {place} of a translation, but this network's positions end at "
            f"{len(network.decoder.positions) - 1}: build it with a larger `max_length`"
        )
    x = network.embed(network.decoder, tokens, network.decoder.positions[place, : network.decoder.dim])
    presents = []
    for index, layer in enumerate(network.decoder.layers):
        past = cache.past[index]
        # To self-attention each beam is a sentence of its own, to all else one of its sentence's tokens.
        parts = affine(x, layer.attention.qkv).view(past.shape[0], 1, 3, *past.shape[3:])
        present = torch.cat((past, parts[:, :, 1:]), 1)
        keys, values = present.permute(2, 0, 3, 1, 4).unbind(0)
        attended = network.attend(parts[:, :, 0].transpose(1, 2), keys, values)
        attended = attended.view(*tokens.shape, attended.shape[2])
        x = network.after_self_attention(x, attended, layer, cache.cross[index], cache.masks[index])
        presents.append(present)
    return network.logits(x), replace(cache, past=tuple(presents))


@dataclass(frozen=True, eq=False)
class Translations:
    """The best translations of each sentence, best first.

    Attributes:
        tokens: `(sentences, n_best, length)`, int64; each ends with the end-of-sentence token, and padding
            follows. Only padding where fewer than `n_best` were found.
        scores: The sum of log-probabilities / length**length_penalty `(sentences, n_best)`, float32; -inf
            where none was found.
    """

    tokens: Tensor
    scores: Tensor


@torch.inference_mode()
def beam_search(
    model: Transformer,
    source: Tensor,
    *,
    n_beams: int = 4,
    n_best: int = 1,
    min_length: int = 1,
    max_length: int | None = None,
    length_penalty: float = 0.6,
    end: int = EOS,
) -> Translations:
    """Translates sentences by beam search; with one beam, greedily.

    A translation ends where the end-of-sentence token is among the `n_beams` best continuations. A sentence
    is done when `n_beams` translations have ended (fairseq's rule), or when none that goes on can still enter
    the `n_best`. The score is the sum of log-probabilities / length**length_penalty, with the end counted in
    the length: fairseq's (Ott et al. 2019, arXiv 1904.01038), by which HAT's BLEU was measured, with 4 beams
    and a penalty of 0.6.

    Args:
        model: The Transformer; dropout is off, whatever its mode.
        source: Tokens `(sentences, source length)`, int64, padded on either side.
        n_beams: Translations followed at a time.
        n_best: Translations to return of each sentence, up to `n_beams`.
        min_length: Tokens of the shortest translation, its end included.
        max_length: Tokens of the longest; the end is forced there. By default twice the source's and 10 more.
            With `min_length` the same, exactly so many steps are made, as for measuring.
        length_penalty: From 0; above it, longer translations are favoured.
        end: The end-of-sentence token, with which translations also begin.

    Raises:
        InputError: If a setting is out of its range, or a sentence is longer than the model's `max_length`.
    """
    longest = model.sizes.max_length
    n_beams = integer("n_beams", n_beams, 1, 2**10)
    n_best = integer("n_best", n_best, 1, n_beams)
    min_length = integer("min_length", min_length, 1, longest)
    if max_length is not None:
        max_length = integer("max_length", max_length, min_length, longest)
    end = integer("end", end, 0, model.sizes.vocabulary - 1)
    settings = _Settings(n_beams, n_best, min_length, between("length_penalty", length_penalty, 0, 10), end)
    network = model.network().without_dropout()
    encoded = network.encode(source)
    if max_length is None:
        limits = _LENGTH_RATIO * encoded.is_token.sum(1) + _LENGTH_MARGIN
        limits = limits.clamp(min(min_length, longest), longest)
    else:
        limits = torch.full((len(source),), max_length, device=source.device)
    return _Search(network, encoded, limits, settings).run()


@dataclass(frozen=True)
class _Settings:
    n_beams: int
    n_best: int
    min_length: int
    length_penalty: float
    end: int


class _Search:
    """The state of a beam search; sentences that are done leave it.

    Below, `n` counts the sentences still in it, `k` the beams, `v` the vocabulary.
    """

    def __init__(self, network: Network, encoded: Encoded, limits: Tensor, settings: _Settings) -> None:
        n, k = len(limits), settings.n_beams
        device = limits.device
        self.network, self.settings = network, settings
        self.cache = start(network, encoded, k)
        self.first_limit, self.last_limit = (int(limits.min()), int(limits.max())) if n else (0, 0)
        best = (n, settings.n_best)
        self.result = Translations(
            torch.full((*best, self.last_limit), network.padding, device=device),
            torch.full(best, -torch.inf, device=device),
        )
        self.sentences, self.limits = torch.arange(n, device=device), limits
        self.tokens = torch.full((n, k, 1), settings.end, device=device)
        self.n_ended = torch.zeros(n, dtype=torch.int64, device=device)
        # All beams begin alike: only the first counts until they differ.
        self.sums = torch.full((n, k), -torch.inf, device=device)
        self.sums[:, 0] = 0

    def run(self) -> Translations:
        """Searches to the end."""
        for length in range(1, self.last_limit + 1):
            if not len(self.sentences):
                break
            self._advance(length)
        used = int((self.result.tokens != self.network.padding).any(1).any(0).sum())
        return replace(self.result, tokens=self.result.tokens[..., :used])

    def _advance(self, length: int) -> None:
        """Makes one step: translations get the given length."""
        k, end = self.settings.n_beams, self.settings.end
        values, beams, words = self._candidates(length)
        is_end = (words == end) & (values > -torch.inf)
        self._collect(values[:, :k], beams[:, :k], is_end[:, :k], length)
        # At most one candidate of each beam ends, so that k of twice as many go on.
        self.sums, chosen = values.masked_fill(words == end, -torch.inf).topk(k)
        beams, words = beams.gather(1, chosen), words.gather(1, chosen)
        self.tokens = torch.cat((_of_beams(self.tokens, beams), words[..., None]), 2)
        self._continue(beams, ~self._is_done())

    def _candidates(self, length: int) -> tuple[Tensor, Tensor, Tensor]:
        """Finds the 2k best continuations `(n, 2k)`: their log-probabilities, beams and tokens."""
        logits, self.cache = step(self.network, self.tokens[..., -1], self.cache)
        n, k, v = logits.shape
        scores = torch.log_softmax(logits.float(), 2) + self.sums[..., None]
        scores[..., self.network.padding] = -torch.inf
        ending = scores[..., self.settings.end].clone()
        if length >= self.first_limit:
            scores.masked_fill_((self.limits <= length)[:, None, None], -torch.inf)
        scores[..., self.settings.end] = -torch.inf if length < self.settings.min_length else ending
        values, places = scores.view(n, k * v).topk(min(2 * k, k * v))
        return values, places // v, places % v

    def _collect(self, values: Tensor, beams: Tensor, is_end: Tensor, length: int) -> None:
        """Puts translations that end here among the best of their sentences."""
        if not is_end.any():
            return
        self.n_ended += is_end.sum(1)
        scores = values.masked_fill(~is_end, -torch.inf) / length**self.settings.length_penalty
        scores = torch.cat((self.result.scores[self.sentences], scores), 1)
        ended = self.result.tokens.new_full((*beams.shape, self.last_limit), self.network.padding)
        ended[..., : length - 1] = _of_beams(self.tokens[..., 1:], beams)
        ended[..., length - 1] = self.settings.end
        tokens = torch.cat((self.result.tokens[self.sentences], ended), 1)
        scores, best = scores.topk(self.settings.n_best)
        self.result.scores[self.sentences] = scores
        found = _of_beams(tokens, best).masked_fill((scores == -torch.inf)[..., None], self.network.padding)
        self.result.tokens[self.sentences] = found

    def _is_done(self) -> Tensor:
        """Whether enough translations of a sentence have ended, or none that goes on can enter the best.

        Log-probabilities only add up to less, so that a translation can at most keep its sum up to its limit.
        """
        bound = self.sums[:, 0] / self.limits**self.settings.length_penalty
        return (self.n_ended >= self.settings.n_beams) | (self.result.scores[self.sentences, -1] >= bound)

    def _continue(self, beams: Tensor, is_open: Tensor) -> None:
        """Brings the cache to the beams that go on, and lets the sentences that are done go."""
        n, k = beams.shape
        rows = beams + torch.arange(0, n * k, k, device=beams.device)[:, None]
        if not is_open.all():
            still = is_open.nonzero()[:, 0]
            rows, self.cache = rows[still], self.cache.keep(still)
            self.tokens, self.sums = self.tokens[still], self.sums[still]
            self.sentences, self.limits = self.sentences[still], self.limits[still]
            self.n_ended = self.n_ended[still]
        self.cache = self.cache.reorder(rows.flatten())


def _of_beams(tokens: Tensor, beams: Tensor) -> Tensor:
    """Takes the tokens `(n, k, length)` of the given beams `(n, m)`: `(n, m, length)`."""
    return tokens.gather(1, beams[..., None].expand(-1, -1, tokens.shape[2]))
