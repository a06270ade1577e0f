"""From a tuned model to answers on new images: bundles, and `predict`."""
