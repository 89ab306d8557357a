"""Physics-informed networks and scientific regression: small, float64, with known solutions."""
