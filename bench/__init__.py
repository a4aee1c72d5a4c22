"""The bench: Tollway and its peers, side by side on one machine. See bench/README.md."""
