"""The gateway under load beside bare floors and LiteLLM's proxy, and what each does when a provider misbehaves."""
