"""config.yaml and policies/: read with places, checked as a whole, frozen."""
