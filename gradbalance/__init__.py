"""Multi-task gradient balancing for PyTorch: any solver on any source of gradients."""
