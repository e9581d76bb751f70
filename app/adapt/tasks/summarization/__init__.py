"""Summarization: a short text that says what a long one says."""
