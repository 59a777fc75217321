"""What others do in the place of llmpp, each written from its description as a user would write it."""
