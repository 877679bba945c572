"""What a step costs, what a device can do, and how long the one takes on the other."""
