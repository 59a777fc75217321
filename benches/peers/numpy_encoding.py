"""The encoding of a whole population at once, with numpy: option indices to the 10 features."""

import numpy as np
from numpy.typing import NDArray

from llmpp.space import HYPERPARAMETERS, SearchSpace

_N_LAYERS = 6


class NumpyEncoding:
    """Genomes of 39 option indices, `(n, 39)`: dims and depth, then six layers of each choice."""

    def __init__(self, space: SearchSpace) -> None:
        plain = ["encoder_dim", "decoder_dim", "decoder_layers"]
        self.per_layer = [name for name, depth in HYPERPARAMETERS.items() if depth]
        names = plain + [name for name in self.per_layer for _ in range(_N_LAYERS)]
        options = [space.options[name] for name in names]
        #: The number of options of each gene.
        self.n_options: NDArray[np.int64] = np.array([len(choices) for choices in options])
        self._table = np.zeros((len(names), self.n_options.max()), np.float32)
        for gene, choices in enumerate(options):
            self._table[gene, : len(choices)] = np.array(choices, np.float32) / max(choices)
        self._columns = {name: list(HYPERPARAMETERS).index(name) for name in HYPERPARAMETERS}

    def features(self, genomes: NDArray[np.int64]) -> NDArray[np.float32]:
        """Encodes genomes into features `(n, 10)`."""
        values = self._table[np.arange(len(self.n_options)), genomes]
        features = np.ones((len(genomes), len(self._columns)), np.float32)
        for gene, name in enumerate(("encoder_dim", "decoder_dim", "decoder_layers")):
            features[:, self._columns[name]] = values[:, gene]
        layers = values[:, 3:].reshape(len(genomes), len(self.per_layer), _N_LAYERS)
        depth = genomes[:, 2] + 1
        is_active = np.arange(_N_LAYERS) < depth[:, None]
        for index, name in enumerate(self.per_layer):
            choices = layers[:, index]
            column = self._columns[name]
            if HYPERPARAMETERS[name] == "encoder_layers":
                features[:, column] = choices.mean(axis=1)
            else:
                features[:, column] = np.where(is_active, choices, 0).sum(axis=1) / depth
        return features
