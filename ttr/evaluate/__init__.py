"""From features to numbers: heads, metrics and what they need."""
