"""Prepaid balances behind `bal_` tokens."""
