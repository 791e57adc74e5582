"""Who calls, shown by tokens that somebody else has signed."""
