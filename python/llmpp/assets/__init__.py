"""Figures and weights that ship; `rebuild.py` says where each came from and makes it again."""
