"""What the samples say: entries, intervals, verdicts, reasons, and the file of all of it."""
