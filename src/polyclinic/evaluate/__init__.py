"""How models are judged: metrics, protocols, intervals, tests."""
