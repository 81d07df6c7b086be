"""The article's mix of users, by Locust: short recordings and uploads in twenty chunks, three to one, each polling to
its result; against the article's design and CosyGate in one run. And what protection and telling cost (`cost`)."""
