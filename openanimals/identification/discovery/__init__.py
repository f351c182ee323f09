"""Which unknown animals there are, and how many."""
