"""Programs that talk across a move; each logs what it received and when."""
