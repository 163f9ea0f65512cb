"""The second witness: seeded Doge checkpoints and what transformers makes of them. Entry: ../golden.py."""
