"""The HTTP door: the OpenAI video shape and our own fields over one Gateway, and the page mounted last."""
