"""Scripts that compare alternatives in turn, within one run, and print median ratios."""
