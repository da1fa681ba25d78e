"""What the service tells of endpoints, and whether they take a configuration."""
