"""Finding and replacing patterns in text that comes whole or piece by piece."""
