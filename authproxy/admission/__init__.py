"""Who and what is admitted."""
