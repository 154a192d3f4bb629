"""What readers ask: usage and status, merged over partitions, with the offsets they stand at."""
