"""What the neural posterior is compared with: approximate Bayesian computation."""
