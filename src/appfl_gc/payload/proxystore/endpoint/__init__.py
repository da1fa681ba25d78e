"""ProxyStore's endpoints: a client with deadlines, and what their failures mean."""
