#!/bin/sh
# build.sh: builds cert-manager, its solver, pebble and pebble's DNS server, unless this folder was built before, and
# prints the folder that holds them and cert-manager's CRDs: $PORTCULLIS_CACHE (~/.cache/portcullis)/cert-manager-<hash
# of this folder>.
set -eu
cd "$(dirname "$0")"
cache=${PORTCULLIS_CACHE:-${HOME:-/root}/.cache/portcullis}
out=$cache/cert-manager-$(cat go.mod go.sum build.sh main.go | sha256sum | cut -c1-16)
if [ ! -d "$out" ]; then
	mkdir -p "$cache"
	exec 9>"$cache/cert-manager.lock"
	flock 9
fi
if [ ! -d "$out" ]; then
	# `cargo xtask setup` brings a Go that is new enough, where there was none.
	PATH=$cache/go/bin:/usr/local/go/bin:$PATH
	echo "building cert-manager and pebble with $(go version): 4 minutes the first time" >&2
	export GOTOOLCHAIN=local GOFLAGS=-mod=readonly
	rm -rf "$out.new"
	mkdir "$out.new"
	go build -trimpath -ldflags "-s -w" -o "$out.new/" . tool
	cp -r "$(go list -m -f '{{.Dir}}' github.com/cert-manager/cert-manager)/deploy/crds" "$out.new/crds"
	chmod -R u+w "$out.new/crds"
	mv "$out.new" "$out"
	find "$cache" -maxdepth 1 -name 'cert-manager-*' -mtime +30 -exec rm -rf {} +
fi
echo "$out"
