"""From recordings to batches: the prepared store, windows, batches and folds."""
