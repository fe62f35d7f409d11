"""Answers questions about the pair of databases, and changes neither of them by asking."""
