"""Strongly convex problems whose optimum is known: comparisons and the convex study."""
