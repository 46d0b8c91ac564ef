"""A forward pass: images in, batches through the model, what passed on the way."""
