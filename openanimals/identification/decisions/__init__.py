"""What people decided about who is who, and the individuals that follow."""
