"""Which adapter versions are on the device, and how they get there and leave."""
