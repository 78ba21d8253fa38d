"""A trained detector on its way out: exported, and verified against PyTorch."""
