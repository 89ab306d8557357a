"""The linear models: a loss, its slope and an independent solver each."""
