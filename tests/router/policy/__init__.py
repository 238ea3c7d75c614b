"""The rooms of the policy, each by itself."""
