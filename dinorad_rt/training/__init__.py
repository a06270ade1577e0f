"""Training in PyTorch: one loop for every job, runs that resume exactly, checkpoints to export."""
