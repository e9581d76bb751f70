"""Translation: the same in another language."""
