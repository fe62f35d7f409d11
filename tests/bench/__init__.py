"""Measurements on two real servers with the daemon as a real process: `make bench`.

Not tests: a bench takes minutes, prints figures and asserts no timing. It does assert that what it
measured was right, so that no figure is ever that of a wrong copy.
"""
