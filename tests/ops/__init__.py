"""Operation: as a service, with its settings, credentials and units."""
