"""The control plane that reaches sites through Globus Compute."""
