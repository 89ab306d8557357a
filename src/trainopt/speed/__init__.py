"""Speed, as ratios against peers in the same run: `trainopt speed`."""
