"""The typed schema of both YAML files. Attribute names are the keys of the files."""
