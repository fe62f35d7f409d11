"""What the daemon tells the outside about itself."""
