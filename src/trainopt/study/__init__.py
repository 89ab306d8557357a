"""The studies behind the claims: strongly convex problems, the theorems, and memory."""
