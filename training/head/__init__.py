"""The head on the frozen backbone: a convex problem on cached features; cross-validation sets its decay."""
