"""What networks and heads are built of, under FastReID's names."""
