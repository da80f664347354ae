"""From YAML to a plan; imports no torch."""
