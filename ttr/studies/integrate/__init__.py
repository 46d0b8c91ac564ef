"""What CLS is made of, and whether the map is faithful."""
