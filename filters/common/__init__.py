"""What plugins are made of: extension points, the handle, helpers."""
