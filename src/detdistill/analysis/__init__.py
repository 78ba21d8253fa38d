"""Why a student lags behind its teacher: the paper's two observations, measured on a user's own pair."""
