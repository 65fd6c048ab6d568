"""Loading models on demand, in front of Triton."""
