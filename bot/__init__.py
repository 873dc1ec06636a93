"""The conversation: everything the owner sees and says in the chat."""
