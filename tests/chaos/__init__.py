"""The crash matrix: faults at random moments under load, and an audit of what a reader sees."""
