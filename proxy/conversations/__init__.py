"""What a caller and a panel said to each other, for a while: `services.conversations`."""
