"""The devices to compare on, attached or not, and what each can do at best."""
