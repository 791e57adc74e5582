"""What the program tells of itself: metrics, traces, log lines."""
