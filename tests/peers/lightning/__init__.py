"""Lightning nodes as their vendors' published APIs have them, scripted, on real sockets."""
