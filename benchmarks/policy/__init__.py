"""The planner against a clairvoyant bound and simpler rules, in a simulated day (shared/routing.md)."""
