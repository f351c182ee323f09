"""From photographs and catalogues to batches."""
