"""Control planes: they deliver calls to sites and bring replies back."""
