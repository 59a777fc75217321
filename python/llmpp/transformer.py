"""`Transformer`: the stand-alone encoder-decoder Transformer of an `Architecture`, to train and use."""

from pathlib import Path
from typing import Any

from torch import Tensor

from llmpp.architecture import Architecture
from llmpp.blocks import Blocks, Sizes
from llmpp.errors import InputError
from llmpp.model_file import fill, read_model, write_model
from llmpp.network import Network
from llmpp.special_tokens import PAD

TRANSFORMER_SCHEMA = "llmpp.transformer/1"


class Transformer(Blocks):
    """HAT's Transformer (arXiv 2005.14187): post-norm, ReLU, sinusoidal positions, one tied embedding.

    The embedding is `(vocabulary, max(encoder_dim, decoder_dim))`; each side uses its leading columns.

    Args:
        architecture: The architecture.
        vocabulary: Rows of the embedding.
        qkv_dim: Width of queries, keys and values in every layer.
        n_encoder_slots: Encoder layers of the supernet this is a part of, if it has more (see `Sizes`).
        super_dims: Encoder and decoder width of that supernet, if it is wider.
        max_length: Tokens of the longest sentence.
        padding: The number of the padding token.
        dropout: The share of values dropped in training, scaled by width / super width.
        attention_dropout: The share of attention weights dropped in training.

    Raises:
        InputError: If a number is out of its range, heads do not divide `qkv_dim`, or a decoder layer looks
            at more encoder layers than there are.

    Example:
        >>> import torch
        >>> a = Architecture(16, (32, 32), (4, 2), 16, (32,), (4,), (2,), (2,))
        >>> model = Transformer(a, vocabulary=100, qkv_dim=32)
        >>> source, target_in = torch.tensor([[7, 5, 2]]), torch.tensor([[2, 9, 8, 4]])
        >>> model(source, target_in).shape
        torch.Size([1, 4, 100])
    """

    def __init__(
        self,
        architecture: Architecture,
        *,
        vocabulary: int,
        qkv_dim: int = 512,
        n_encoder_slots: int | None = None,
        super_dims: tuple[int, int] | None = None,
        max_length: int = 1024,
        padding: int = PAD,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
    ) -> None:
        own_dims = (architecture.encoder_dim, architecture.decoder_dim)
        sizes = Sizes(
            vocabulary=vocabulary,
            qkv_dim=qkv_dim,
            n_encoder_slots=architecture.encoder_layers if n_encoder_slots is None else n_encoder_slots,
            super_dims=own_dims if super_dims is None else super_dims,
            max_length=max_length,
            padding=padding,
            dropout=dropout,
            attention_dropout=attention_dropout,
        )
        super().__init__(architecture, sizes)
        self.architecture = architecture

    def network(self) -> Network:
        """Returns the functions of the network on the present parameters, with dropout while training."""
        return self.cut(self.architecture)

    def forward(self, source: Tensor, target_in: Tensor) -> Tensor:
        """Computes the logits of every next token.

        Args:
            source: Tokens `(batch, source length)`, int64, padded on either side.
            target_in: The target shifted by one, `(batch, target length)`, int64, padded at the end.

        Returns:
            Logits `(batch, target length, vocabulary)`.

        Raises:
            InputError: If a sentence is longer than `max_length`.
        """
        return self.network()(source, target_in)

    @property
    def n_params(self) -> int:
        """The number of parameters without embeddings, equal to `params` of `llmpp.cost`."""
        return self.network().n_params

    def save(self, path: Path) -> None:
        """Writes the weights as safetensors, with architecture and sizes as JSON in the metadata.

        Raises:
            InputError: If the file cannot be written.
        """
        record = {"architecture": self.architecture.to_dict(), "sizes": self.sizes.to_dict()}
        write_model(path, self, TRANSFORMER_SCHEMA, record)

    @classmethod
    def load(cls, path: Path) -> "Transformer":
        """Reads what `save` wrote, onto the CPU, in the dtype that it was saved in.

        Raises:
            InputError: If the file cannot be read, is of another kind, or contradicts itself.
        """
        tensors, record = read_model(path, TRANSFORMER_SCHEMA)
        try:
            architecture = Architecture.from_dict(record["architecture"])
            settings: dict[str, Any] = Sizes.from_dict(record["sizes"]).to_dict()
            model = cls(architecture, **settings)
        except (KeyError, InputError) as error:
            raise InputError(f"{path} has a record that cannot be used: {error}") from error
        fill(model, tensors, path)
        return model
