"""What failures mean, and what is said and not said of them."""
