"""Where each primitive takes the rows."""
