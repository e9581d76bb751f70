"""Text generation: go on with a text, answer a prompt or a chat, and prefer one answer to another."""
