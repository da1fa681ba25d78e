"""What lets user files that import ``appfl`` run: which names there are, and how their imports find them."""
