"""Tests of what the daemon does when something breaks."""
