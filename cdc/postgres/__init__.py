"""What both servers have in common: a session with pinned settings, and the catalog."""
