"""Endpoints of our own: FastAPI applications called in process, behind the same listeners as everything else."""
