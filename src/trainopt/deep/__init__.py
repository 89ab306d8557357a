"""Deep networks: tasks on real data, every optimizer tuned alike, and the study's report."""
