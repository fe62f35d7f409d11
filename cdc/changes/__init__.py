"""Messages into the net change of each row: pure."""
