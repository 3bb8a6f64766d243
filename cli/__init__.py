"""mnctl and hactl."""
