"""The stress card: how models fare as rendered people change step by step, one thing at a time."""
