"""What makes a release of this project: docs/releasing.md. `make release` runs it."""
