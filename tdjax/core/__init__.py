"""What everything else is built on: calls, axes, masks, jaxprs, errors. It knows no strategy."""
