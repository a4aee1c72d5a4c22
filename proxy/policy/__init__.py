"""What an operator lets callers do: rules of four scopes, merged, judged, and applied to a request."""
