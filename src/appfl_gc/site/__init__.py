"""What runs at a site: the entry function, its roles, the session cache, the site's policy and outbox."""
