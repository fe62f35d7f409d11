"""The daemon as those who operate it meet it: what it serves, tells and is started by."""
