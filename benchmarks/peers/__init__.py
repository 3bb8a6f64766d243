"""Other programs that carry packets between two ends, with configurations as their users write them."""
