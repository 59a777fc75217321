"""The special tokens of every vocabulary."""

#: HAT numbers them like this, so that its networks and ours count positions and mask padding alike.
BOS, PAD, EOS, UNK = range(4)
SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>")
