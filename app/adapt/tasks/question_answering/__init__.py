"""Extractive question answering: the answer is a stretch of the context, or there is none."""
