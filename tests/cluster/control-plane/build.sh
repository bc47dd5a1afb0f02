#!/bin/sh
# build.sh: builds the control plane and the echo backend, unless this folder was built before, and prints the
# folder that holds them: $PORTCULLIS_CACHE (~/.cache/portcullis)/control-plane-<hash of this folder>.
set -eu
cd "$(dirname "$0")"
cache=${PORTCULLIS_CACHE:-${HOME:-/root}/.cache/portcullis}
hash=$(cat go.mod go.sum build.sh ./*.go echo/*.go | sha256sum | cut -c1-16)
out=$cache/control-plane-$hash
if [ -x "$out/kube-control-plane" ]; then
	echo "$out"
	exit
fi
mkdir -p "$cache"
exec 9>"$cache/control-plane.lock"
flock 9
if [ ! -x "$out/kube-control-plane" ]; then
	go=""
	for candidate in "$(command -v go || true)" /usr/local/go/bin/go "$cache/go/bin/go"; do
		# go.mod asks for 1.25; an older go cannot read it
		if [ -x "$candidate" ] && "$candidate" version | grep -qE ' go1\.(2[5-9]|[3-9][0-9])'; then
			go=$candidate
			break
		fi
	done
	if [ -z "$go" ]; then
		echo "build.sh: no Go 1.25 or newer; run \`cargo xtask setup\`" >&2
		exit 1
	fi
	echo "building the test control plane with $("$go" version): 4-5 minutes the first time" >&2
	# Without the -X flags the server calls itself v0.0.0-master+$Format:%H$, and kubectl and helm refuse it.
	v=$(sed -n 's/^\tk8s.io\/kubernetes \(v[^ ]*\).*$/\1/p' go.mod)
	minor=${v#v1.}
	minor=${minor%%.*}
	x=""
	for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
		x="$x -X $package.gitVersion=$v -X $package.gitMajor=1 -X $package.gitMinor=$minor -X $package.gitTreeState=clean"
	done
	export GOTOOLCHAIN=local GOFLAGS=-mod=readonly
	rm -rf "$out.new"
	mkdir "$out.new"
	"$go" build -trimpath -ldflags "-s -w" -o "$out.new/echo" ./echo
	"$go" build -trimpath -ldflags "-s -w $x" -o "$out.new/kube-control-plane" .
	mv "$out.new" "$out"
	# A checkout that is not used any more leaves its build behind; a month is long enough to keep it.
	find "$cache" -maxdepth 1 -name 'control-plane-*' -mtime +30 -exec rm -rf {} +
fi
echo "$out"
