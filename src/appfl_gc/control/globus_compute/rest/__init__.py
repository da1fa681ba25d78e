"""The service's REST side for one identity: requests within its rate, and its errors."""
