"""A client that pays: reads what a 402 offers, pays with the wallet it has, never more than it may, and asks again."""
