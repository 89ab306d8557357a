"""The theorems, measured: rates of convergence, where boundedness ends, and memory."""
