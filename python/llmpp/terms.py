"""What latency is a sum of: costs per layer and per size, as products of at most two averaged features.

A sum over layers is a mean times the number of layers, so the cost of layers is a product with their number:
so much for each layer of the smallest size, and so much more for what is above it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from llmpp.space import HYPERPARAMETERS, Floats

Term: TypeAlias = tuple[str, ...]

NAMES = tuple(HYPERPARAMETERS)
#: What the encoder costs beside a constant. Feed-forward matrices grow with both of their sides; as there are
#: products of two features only, that growth is taken at the mean number of layers.
ENCODER_TERMS: tuple[Term, ...] = (
    ("encoder_dim",),
    ("encoder_layers",),
    ("encoder_layers", "encoder_dim"),
    ("encoder_layers", "encoder_ffn"),
    ("encoder_layers", "encoder_heads"),
    ("encoder_dim", "encoder_ffn"),
)
#: What the decoder costs beside a constant: its output projection by `decoder_dim`, and its layers, whose
#: cross-attention also reads the encoder's width.
DECODER_TERMS: tuple[Term, ...] = (
    ("decoder_dim",),
    ("decoder_layers",),
    ("decoder_layers", "decoder_dim"),
    ("decoder_layers", "decoder_ffn"),
    ("decoder_layers", "decoder_heads"),
    ("decoder_layers", "cross_heads"),
    ("decoder_layers", "cross_span"),
    ("decoder_layers", "encoder_dim"),
    ("decoder_dim", "decoder_ffn"),
)
#: The hyperparameters of which more may take less time: heads change no FLOPs, only how they are cut.
_EITHER_WAY = ("encoder_heads", "decoder_heads", "cross_heads")
_LAYERS = ("encoder_layers", "decoder_layers")


@dataclass(frozen=True, eq=False)
class Basis:
    """Columns of a linear model, each a sum of products of features.

    Attributes:
        products: Index pairs `(p, 2)`; the index 10 stands for the constant 1.
        expansion: What each column is made of `(k, 1 + p)`: so much of 1, so much of each product.
    """

    products: NDArray[np.int32]
    expansion: Floats

    def columns(self, features: Floats) -> Floats:
        """Computes the columns `(n, k)` of averaged features `(n, 10)`."""
        columns: Floats = multiply(features, self.products) @ self.expansion.T
        return columns


def multiply(features: Floats, products: NDArray[np.int32]) -> Floats:
    """Computes 1 and the products `(n, 1 + p)` of averaged features `(n, 10)`."""
    extended = np.column_stack([features, np.ones(len(features))])
    multiplied: Floats = extended[:, products[:, 0]] * extended[:, products[:, 1]]
    return np.column_stack([np.ones(len(features)), multiplied])


def physical_basis(smallest: Floats, largest: Floats) -> tuple[Basis, NDArray[np.bool_]]:
    """Builds columns that are nowhere negative, of the encoder and then of the decoder.

    No size lowers a column, and no added layer does; so no size and no layer lowers a sum of columns with
    coefficients that are not negative. A feature that never varies is left out.

    Args:
        smallest: The smallest value of each feature `(10,)`.
        largest: The largest `(10,)`.

    Returns:
        The columns, and which of them are the encoder's `(k,)`. Each side begins with the constant 1.
    """
    sides = [list(_expanded(terms, smallest, largest)) for terms in (ENCODER_TERMS, DECODER_TERMS)]
    pairs = sorted({pair for side in sides for column in side for pair in column} - {_CONSTANT})
    places = {pair: place for place, pair in enumerate([_CONSTANT, *pairs])}
    expansion = np.zeros((len(sides[0]) + len(sides[1]), len(places)))
    for row, column in enumerate(sides[0] + sides[1]):
        for pair, amount in column.items():
            expansion[row, places[pair]] = amount
    is_encoder = np.arange(len(expansion)) < len(sides[0])
    return Basis(np.array(pairs, np.int32).reshape(-1, 2), expansion), is_encoder


def plain_basis(pairs: Sequence[tuple[str, str]], varies: NDArray[np.bool_]) -> Basis:
    """Builds the columns 1, the features that vary `(10,)`, and products of pairs of them."""
    is_used = dict(zip(NAMES, varies, strict=True))
    linear = [(index, len(NAMES)) for index in np.flatnonzero(varies)]
    used = [(NAMES.index(a), NAMES.index(b)) for a, b in pairs if is_used[a] and is_used[b]]
    products = np.array(linear + used, np.int32).reshape(-1, 2)
    return Basis(products, np.eye(1 + len(products)))


#: A column: amounts of products. A pair of `len(NAMES)` is the product 1.
_Column: TypeAlias = dict[tuple[int, int], float]
_CONSTANT = (len(NAMES), len(NAMES))


def _expanded(terms: Sequence[Term], smallest: Floats, largest: Floats) -> Iterator[_Column]:
    """Multiplies out the terms of one side; what is there twice, since a factor never varies, comes once."""
    varies = dict(zip(NAMES, largest > smallest, strict=True))
    seen = set()
    for term in ((), *terms):
        if not all(varies[name] or name in _LAYERS for name in term):
            continue
        names = tuple(name for name in term if varies[name])
        if names not in seen:
            seen.add(names)
            for factors in product(*(_factors(name, smallest, largest) for name in names)):
                yield _multiplied(factors)


#: slope * x + offset, with the index of x.
_Factor: TypeAlias = tuple[int, float, float]


def _factors(name: str, smallest: Floats, largest: Floats) -> list[_Factor]:
    """How a feature enters: layers whole, sizes from their smallest, heads from either end."""
    index = NAMES.index(name)
    if name in _LAYERS:
        return [(index, 1.0, 0.0)]
    above = (index, 1.0, -float(smallest[index]))
    return [above, (index, -1.0, float(largest[index]))] if name in _EITHER_WAY else [above]


def _multiplied(factors: Sequence[_Factor]) -> _Column:
    column: _Column = {_CONSTANT: 1.0}
    for index, slope, offset in factors:
        grown: _Column = {}
        for pair, amount in column.items():
            with_x = (index, len(NAMES)) if pair == _CONSTANT else (pair[0], index)
            grown[with_x] = grown.get(with_x, 0.0) + amount * slope
            grown[pair] = grown.get(pair, 0.0) + amount * offset
        column = grown
    return {pair: amount for pair, amount in column.items() if amount}
