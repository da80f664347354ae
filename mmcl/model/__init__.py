"""Encoders: normalisation, backbone and projection of each modality, and how they are kept."""
