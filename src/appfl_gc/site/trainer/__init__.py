"""Local training at a site: the trainers, and one training task from received model to update."""
