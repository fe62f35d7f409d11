"""Tests against real servers; see CONTRIBUTING.md."""
