"""References to hits of a search, which an event can name later, in another request."""
