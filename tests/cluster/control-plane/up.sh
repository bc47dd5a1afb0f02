#!/bin/bash
# up.sh: run by rig.sh in the rig's namespaces. Starts the control plane and the nodes.
set -eu
bin=$RIG_TOOLS/kube-control-plane host=198.18.0.1 nodes=${NODES:-2}
p=$RIG/pki
mkdir -p "$RIG"/{bin,log,pods,images,components}
ln -s "$bin" "$RIG/bin/kubectl"
t0=$(date +%s%N)
since() { echo "$1 $((($(date +%s%N) - t0) / 1000000)) ms"; }
until_true() { until "$@" >/dev/null 2>&1; do sleep 0.05; done; }

# What pods see as /images. Files are bound, not copied: a rebuilt binary does not change a running rig.
image() { : >"$RIG/images/$1"; mount --bind "$2" "$RIG/images/$1"; }
image echo "$RIG_TOOLS/echo"
image kubectl "$bin"
[ -z "${RIG_PORTCULLIS:-}" ] || image portcullis "$RIG_PORTCULLIS"
[ -z "${RIG_CERT_MANAGER:-}" ] || image cert-manager "$RIG_CERT_MANAGER/cert-manager"

ip link set lo up
ip link add br0 type bridge
ip addr add $host/24 dev br0
ip -6 addr add 2001:db8::1/64 dev br0 nodad
ip link set br0 up

identities=()
for ((i = 0; i < nodes; i++)); do identities+=("node-$i=198.18.0.1$i"); done
sh "$RIG_SOURCE/pki.sh" "$p" $host "${identities[@]}"
since pki

# component.sh starts a component from its saved command line, so that tests can kill and restart it.
start() { name=$1; shift; printf '%s\0' "$bin" "$@" >"$RIG/components/$name"; "$RIG_SOURCE/component.sh" start "$name"; }
start etcd etcd --data-dir "$RIG/etcd"
# Aggregator routing: webhooks are reached at the addresses of their pods, since no kube-proxy serves cluster addresses.
start apiserver kube-apiserver \
	--bind-address=$host --advertise-address=$host --secure-port=6443 \
	--etcd-servers=http://127.0.0.1:2379 \
	--tls-cert-file=$p/apiserver.crt --tls-private-key-file=$p/apiserver.key \
	--client-ca-file=$p/ca.crt --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
	--service-account-issuer=https://kubernetes.default.svc.cluster.local \
	--service-account-signing-key-file=$p/sa.key --service-account-key-file=$p/sa.pub \
	--service-cluster-ip-range=10.96.0.0/16 --allow-privileged=true --enable-aggregator-routing=true \
	--kubelet-client-certificate=$p/apiserver-to-kubelet.crt --kubelet-client-key=$p/apiserver-to-kubelet.key \
	--kubelet-certificate-authority=$p/ca.crt --kubelet-preferred-address-types=InternalIP \
	--requestheader-client-ca-file=$p/ca.crt --requestheader-allowed-names=front-proxy-client \
	--requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \
	--requestheader-extra-headers-prefix=X-Remote-Extra- \
	--proxy-client-cert-file=$p/front-proxy.crt --proxy-client-key-file=$p/front-proxy.key
admin() { curl -sf --max-time 2 --cacert $p/ca.crt --cert $p/admin.crt --key $p/admin.key "https://$host:6443$1"; }
until_true admin /readyz
since readyz
# The raised client rates: without them the default service account, which every pod waits for, comes 4.5 s later.
start controller-manager kube-controller-manager --kubeconfig=$p/controller-manager.kubeconfig \
	--leader-elect=false --use-service-account-credentials=true --bind-address=127.0.0.1 \
	--kube-api-qps=1000 --kube-api-burst=2000 \
	--authentication-kubeconfig=$p/controller-manager.kubeconfig --authorization-kubeconfig=$p/controller-manager.kubeconfig \
	--service-account-private-key-file=$p/sa.key --root-ca-file=$p/ca.crt \
	--cluster-signing-cert-file=$p/ca.crt --cluster-signing-key-file=$p/ca.key
start scheduler kube-scheduler --kubeconfig=$p/scheduler.kubeconfig --kube-api-qps=1000 --kube-api-burst=2000 --leader-elect=false \
	--bind-address=127.0.0.1 \
	--authentication-kubeconfig=$p/scheduler.kubeconfig --authorization-kubeconfig=$p/scheduler.kubeconfig

# A node: a network namespace with eth0 on the switch, and a mount namespace with its own sysfs and bpffs.
node() { # number
	local name=node-$1 address=198.18.0.1$1
	unshare --net --mount --propagation private sh -c \
		'mount -t sysfs sysfs /sys && mount -t bpf -o mode=0700 bpf /sys/fs/bpf && : >"$0" && exec sleep infinity' "$RIG/$name.ready" &
	local pid=$!
	echo $pid >"$RIG/$name.pid"
	until_true test -e "$RIG/$name.ready"
	ip link add "$name" type veth peer name eth0 netns $pid
	ip link set "$name" master br0 up
	# Packets that an XDP program passes or sends on must carry whole checksums, as on a wire.
	ethtool -K "$name" tx off
	nsenter -t $pid -n ethtool -K eth0 tx off
	nsenter -t $pid -n ip -batch - <<-END
		link set lo up
		addr add $address/24 dev eth0
		link set eth0 up
		addr add 2001:db8::1$1/64 dev eth0 nodad
		link add cni0 type bridge
		addr add 198.19.$1.1/24 dev cni0
		link set cni0 up
		route add default via $host
	END
	nsenter -t $pid -n sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
	ip route add 198.19.$1.0/24 via $address
	for ((other = 0; other < nodes; other++)); do
		[ $other = $1 ] || nsenter -t $pid -n ip route add 198.19.$other.0/24 via 198.18.0.1$other
	done
	printf '%s\0' nsenter -t $pid -n -m "$bin" pod-runner --kubeconfig=$p/$name.kubeconfig --node=$name --node-ip=$address --api-host=$host \
		--pod-cidr=198.19.$1.0/24 --dir=$RIG/pods/$name --image-dir=$RIG/images --images=$RIG_SOURCE/images.json \
		--tls-cert-file=$p/kubelet-$name.crt --tls-private-key-file=$p/kubelet-$name.key >"$RIG/components/$name"
	"$RIG_SOURCE/component.sh" start $name
}
for ((i = 0; i < nodes; i++)); do node $i; done
until_true curl -skf https://127.0.0.1:10257/healthz
until_true curl -skf https://127.0.0.1:10259/healthz
for ((i = 0; i < nodes; i++)); do until_true curl -skf https://198.18.0.1$i:10250/healthz; done
since nodes
until_true admin /api/v1/namespaces/default/serviceaccounts/default
since default-service-account
