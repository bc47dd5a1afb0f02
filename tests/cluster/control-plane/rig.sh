#!/bin/sh
# rig.sh COMMAND...: boots a cluster of NODES (2) nodes in fresh network, mount and pid namespaces, runs COMMAND in it
# with KUBECONFIG, RIG and PATH set, and returns its exit status. Whatever ends this process, the kernel ends the whole
# cluster: its files lie in a tmpfs of the private mount namespace. Needs root. Several rigs can run at once.
#
#   RIG_PORTCULLIS=target/debug/portcullis tests/cluster/control-plane/rig.sh bash
#
# The command runs in the rig's network namespace, which is the switch that the nodes hang on: a client beside the
# nodes, as in a rack. `kubectl` is on the PATH, state and logs are in $RIG.
#
#   switch (here)  br0   198.18.0.1/24, 2001:db8::1/64      API server, etcd, the test itself
#   node-N         eth0  198.18.0.1N/24, 2001:db8::1N/64    a network and mount namespace with its own bpffs
#                  cni0  198.19.N.1/24                      the node's pods
set -eu
here=$(cd "$(dirname "$0")" && pwd)
[ "$(id -u)" = 0 ] || { echo "rig.sh: needs root (namespaces, eBPF)" >&2; exit 1; }
RIG_TOOLS=$("$here/build.sh")
export RIG_TOOLS RIG_SOURCE="$here" RIG=/mnt KUBECONFIG=/mnt/pki/admin.kubeconfig
# unshare itself ignores SIGTERM; this shell does not, and takes unshare and all else with it.
setpriv --pdeathsig KILL unshare --net --mount --propagation private --pid --fork --kill-child --mount-proc bash -c '
	set -eu
	mount -t tmpfs -o mode=0755 rig "$RIG"
	"$RIG_SOURCE/up.sh" >"$RIG/up.log" 2>&1 || { cat "$RIG/up.log" >&2; tail -n 20 "$RIG"/log/*.log >&2; exit 1; }
	PATH=$RIG/bin:$PATH
	"$@"' rig "$@"
