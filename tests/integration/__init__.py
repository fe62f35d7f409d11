"""Tests of the daemon and its commands between two real servers."""
