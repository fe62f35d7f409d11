"""The Neon side: the checkpoint, the statements that write changes, and who runs them."""
