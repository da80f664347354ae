"""pairs × positives × loss."""
