"""A panel measured without any provider: scripted members, judges and synthesisers of stated laws, on virtual time."""
