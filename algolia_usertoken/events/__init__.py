"""The event sender and its parts; users import them from `algolia_usertoken`."""
