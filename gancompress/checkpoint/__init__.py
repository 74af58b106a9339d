"""Files of weights and run folders."""
