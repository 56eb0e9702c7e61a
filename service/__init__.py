"""Online serving: HTTP, batching and the adapters that are resident on one frozen backbone."""
