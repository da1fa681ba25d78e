"""What ``algorithms.py`` compares, measures, draws and writes."""
