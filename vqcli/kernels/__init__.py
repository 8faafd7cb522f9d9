"""Compiled evaluation of the autoregressive nets, one symbol at a time."""
