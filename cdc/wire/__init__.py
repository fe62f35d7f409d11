"""Bytes on the wire into messages, and back: pure, and total over any input."""
