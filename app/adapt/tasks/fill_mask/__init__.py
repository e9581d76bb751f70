"""Masked language modelling: words that were hidden are found again."""
