"""From texts to logits: tokenisation, scheduling and the one thread that owns the device."""
