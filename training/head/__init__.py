"""The head on the frozen backbone: a convex problem on cached features, its strength of decay by cross-validation."""
