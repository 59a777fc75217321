"""`SuperTransformer`: one set of weights for all Transformers of a search space (HAT, arXiv 2005.14187)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llmpp.architecture import Architecture
from llmpp.blocks import Blocks, Sizes
from llmpp.errors import InputError, SpaceError
from llmpp.hat_weights import renamed, space_of
from llmpp.mixture import Mixture
from llmpp.model_file import fill, read_model, read_tensors, write_model
from llmpp.network import Network
from llmpp.space import SearchSpace
from llmpp.special_tokens import PAD
from llmpp.transformer import Transformer

SUPERNET_SCHEMA = "llmpp.supernet/1"


class SuperTransformer(Blocks):
    """The parameters of a space's largest Transformer; others use their leading slices and first layers.

    Args:
        space: The architectures that share the weights.
        vocabulary: Rows of the embedding.
        mixture: How feed-forward weights come about: HAT's ('plain'), or Mixture-of-Supernets.
        max_length: Tokens of the longest sentence.
        padding: The number of the padding token.
        dropout: The share of values dropped in training, scaled by width / largest width.
        attention_dropout: The share of attention weights dropped in training, never scaled.

    Raises:
        InputError: If a number is out of its range, heads do not divide the space's `qkv_dim`, or a span
            exceeds the largest number of encoder layers.

    Example:
        >>> options = {"encoder_dim": (8, 16), "encoder_layers": (2,), "encoder_ffn": (16, 32),
        ...            "encoder_heads": (2,), "decoder_dim": (8, 16), "decoder_layers": (1, 2),
        ...            "decoder_ffn": (16, 32), "decoder_heads": (2, 4), "cross_heads": (2,),
        ...            "cross_span": (1, 2)}
        >>> net = SuperTransformer(SearchSpace("small", options, 16), vocabulary=100)
        >>> source, target_in = torch.tensor([[7, 5, 2]]), torch.tensor([[2, 9, 8, 4]])
        >>> architecture = net.space.sample(1)[0]
        >>> logits = net(architecture, source, target_in)
        >>> torch.equal(net.extract(architecture)(source, target_in), logits)
        True
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        vocabulary: int,
        mixture: Mixture = Mixture(),  # noqa: B008 - frozen
        max_length: int = 1024,
        padding: int = PAD,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
    ) -> None:
        largest = space.largest_architecture
        sizes = Sizes(
            vocabulary=vocabulary,
            qkv_dim=space.qkv_dim,
            n_encoder_slots=largest.encoder_layers,
            super_dims=(largest.encoder_dim, largest.decoder_dim),
            max_length=max_length,
            padding=padding,
            dropout=dropout,
            attention_dropout=attention_dropout,
        )
        _check_heads(space)
        super().__init__(largest, sizes, mixture.block)
        self.space, self.mixture = space, mixture

    def network(self, architecture: Architecture) -> Network:
        """Cuts the network of an architecture, mixed where there are experts.

        Gradients flow through it to the slices it was cut from, and nowhere else. Use it for as long as the
        parameters stay the same: several batches, or all steps of decoding, then cost one cut.

        Raises:
            SpaceError: If the architecture lies outside the space.
        """
        features = torch.from_numpy(self.space.features([architecture])[0])
        if self.mixture.kind == "plain":
            return self.cut(architecture)
        return self.cut(architecture, features.to(self.embedding.device))

    def forward(self, architecture: Architecture, source: Tensor, target_in: Tensor) -> Tensor:
        """Computes the logits of every next token by the weights of an architecture.

        Args:
            architecture: An architecture of the space.
            source: Tokens `(batch, source length)`, int64, padded on either side.
            target_in: The target shifted by one, `(batch, target length)`, int64, padded at the end.

        Returns:
            Logits `(batch, target length, vocabulary)`.

        Raises:
            SpaceError: If the architecture lies outside the space.
            InputError: If a sentence is longer than `max_length`.
        """
        return self.network(architecture)(source, target_in)

    @torch.no_grad()
    def extract(self, architecture: Architecture) -> Transformer:
        """Copies the weights of an architecture into a Transformer of its own, which gives the same logits.

        Experts are mixed as in evaluation. Device, dtype and the settings of dropout stay; it comes in
        evaluation mode.

        Raises:
            SpaceError: If the architecture lies outside the space.
        """
        was_training = self.training
        try:
            source = self.eval().network(architecture)
        finally:
            self.train(was_training)
        transformer = Transformer(architecture, **self.sizes.to_dict()).to(self.embedding).eval()
        transformer.embedding.copy_(self.embedding[:, : transformer.embedding.shape[1]])
        own = transformer.network()
        for mine, theirs in zip(own.layer_tensors(), source.layer_tensors(), strict=True):
            mine.copy_(theirs)
        return transformer

    @classmethod
    def from_hat(cls, path: str | Path, meta: Mapping[str, Any]) -> "SuperTransformer":
        """Reads a supernet that HAT trained, converted to safetensors under HAT's names.

        Args:
            path: The weights.
            meta: Their description: `vocab`, `pad`, the sizes `super`, and the `choices` of the space.

        Raises:
            InputError: If the weights cannot be read, or they and their description do not fit.
        """
        space, path = space_of(meta), Path(path)
        try:
            net = cls(space, vocabulary=meta["vocab"], padding=meta["pad"])
        except KeyError as error:
            raise InputError(f"the description of a HAT supernet lacks {error}") from error
        tensors, _ = read_tensors(path)
        fill(net, renamed(tensors, space.qkv_dim), path)
        return net

    def save(self, path: Path) -> None:
        """Writes the weights as safetensors, with space, sizes and mixture as JSON in the metadata.

        Raises:
            InputError: If the file cannot be written.
        """
        record = {
            "space": self.space.to_dict(),
            "sizes": self.sizes.to_dict(),
            "mixture": self.mixture.to_dict(),
        }
        write_model(path, self, SUPERNET_SCHEMA, record)

    @classmethod
    def load(cls, path: Path) -> "SuperTransformer":
        """Reads what `save` wrote, onto the CPU, in the dtype that it was saved in.

        Raises:
            InputError: If the file cannot be read, is of another kind, or contradicts itself.
        """
        tensors, record = read_model(path, SUPERNET_SCHEMA)
        try:
            space, mixture = SearchSpace.from_dict(record["space"]), Mixture.from_dict(record["mixture"])
            sizes = Sizes.from_dict(record["sizes"]).to_dict()
            derived = {name: sizes.pop(name) for name in ("qkv_dim", "n_encoder_slots", "super_dims")}
            net = cls(space, mixture=mixture, **sizes)
        except (KeyError, TypeError, InputError, SpaceError) as error:
            raise InputError(f"{path} has a record that cannot be used: {error}") from error
        if derived != {name: getattr(net.sizes, name) for name in derived}:
            raise InputError(f"{path} contradicts itself: the sizes {derived} are not those of its space")
        fill(net, tensors, path)
        return net


def _check_heads(space: SearchSpace) -> None:
    for name in ("encoder_heads", "decoder_heads", "cross_heads"):
        for heads in space.options[name]:
            if space.qkv_dim % heads:
                raise InputError(f"{name} may be {heads}, which does not divide qkv_dim {space.qkv_dim}")
