"""How `auto` chooses: candidates, predictions, what was measured, and the decision."""
