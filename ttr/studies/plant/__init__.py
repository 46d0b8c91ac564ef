"""Plant artifacts in a pretrained model, whose own maps are the truth."""
