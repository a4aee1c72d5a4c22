"""What we tell about ourselves: log, metrics, request ids, files of JSON lines."""
