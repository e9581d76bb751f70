"""Sentence embeddings: texts that mean the same lie close together."""
