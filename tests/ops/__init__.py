"""What an operator touches: the service, what it serves and tells, the page and the image."""
