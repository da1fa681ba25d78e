"""What a person or a script sees of a run: displays, plain lines, JSON lines and the closing summary."""
