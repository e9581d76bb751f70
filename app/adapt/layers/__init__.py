"""What methods know about the inside of networks. Imports torch."""
