"""What a small honest application does with the usual means, for comparison: one route, one task for each event."""
