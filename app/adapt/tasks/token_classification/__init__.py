"""Mark the spans of a text that are of some kind: named entities, above all."""
