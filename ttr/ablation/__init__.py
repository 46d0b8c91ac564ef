"""The ablation suite: conditions x tasks x analyses on one set, image by image, as tables and pictures."""
