#!/bin/sh
# A ConfigMap's keys have no slashes: contexts__inventory__extraction.yaml becomes contexts/inventory/extraction.yaml.
set -eu
for file in /packed/*; do
  target="/project/$(basename "$file" | sed 's|__|/|g')"
  mkdir -p "$(dirname "$target")"
  cp "$file" "$target"
done
