"""Doorbells: what says "look now" outside this process."""
