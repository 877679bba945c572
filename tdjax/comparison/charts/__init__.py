"""What a chart holds, before anything is drawn: its points, its axes, where its labels go."""
