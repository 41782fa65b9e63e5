"""Which paths are there? What happens between HTTP and the classifier, route by route."""
