"""Searches over values of a recipe, judged on validation recordings alone."""
