"""What every package may use: errors, registries, logging, randomness, files, processes."""
