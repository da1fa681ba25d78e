"""What is known of facilities and of the endpoints that run there."""
