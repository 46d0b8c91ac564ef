"""What ttr costs, as ratios to the bare model: one harness, a case a question (``__main__`` says how)."""
