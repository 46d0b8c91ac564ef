"""Images read by people, with and without maps: what a map does to answers, times and trust."""
