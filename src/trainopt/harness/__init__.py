"""One harness for every comparison: optimizers, protocols, searches, results and reports."""
