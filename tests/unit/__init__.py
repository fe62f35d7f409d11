"""Tests that need no server: wire/, changes/ and the other pure rooms."""
