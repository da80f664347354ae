"""What a representation is worth: metrics, retrieval, statistics."""
