#!/usr/bin/env bash
# Installs the pinned npm packages of the tests into DIRECTORY, unless they are there.
#   npm_ci.sh DIRECTORY
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$1"
cd "$1"
cmp -s "$here/package-lock.json" node_modules/.installed && exit 0
cp "$here/package.json" "$here/package-lock.json" .
npm ci --ignore-scripts --no-audit --no-fund
cp package-lock.json node_modules/.installed
