"""What is done when a model fails."""
