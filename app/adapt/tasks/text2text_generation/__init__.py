"""Text to text without a name for what it is: what a pretrained encoder-decoder does."""
