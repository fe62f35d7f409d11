"""The conductors: what source and target do together."""
