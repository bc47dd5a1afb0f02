#!/bin/sh
# pki.sh DIR HOST NODE...: CA, API server certificate, service-account key, and one kubeconfig per identity.
# Each NODE is NAME=ADDRESS.
set -eu
dir=$1 host=$2
shift 2
mkdir -p "$dir" && cd "$dir"
key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; }
issue() { # file subject extensions
	key "$1"
	openssl req -new -key "$1.key" -subj "$2" -out "$1.csr"
	printf '%s\n' "$3" >"$1.ext"
	openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile "$1.ext" -out "$1.crt" 2>/dev/null
}
key ca
openssl req -x509 -new -key ca.key -subj /CN=rig-ca -days 30 -out ca.crt
key sa
openssl ec -in sa.key -pubout -out sa.pub 2>/dev/null
issue apiserver /CN=kube-apiserver "subjectAltName=IP:127.0.0.1,IP:$host,IP:10.96.0.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
identity() { # name subject
	issue "$1" "$2" extendedKeyUsage=clientAuth
	cat >"$1.kubeconfig" <<YAML
apiVersion: v1
kind: Config
current-context: rig
clusters: [{name: rig, cluster: {server: "https://$host:6443", certificate-authority-data: $(base64 -w0 ca.crt)}}]
users: [{name: $1, user: {client-certificate-data: $(base64 -w0 "$1.crt"), client-key-data: $(base64 -w0 "$1.key")}}]
contexts: [{name: rig, context: {cluster: rig, user: $1}}]
YAML
}
identity admin /O=system:masters/CN=admin
identity apiserver-to-kubelet /O=system:masters/CN=kube-apiserver
identity front-proxy /CN=front-proxy-client
identity controller-manager /CN=system:kube-controller-manager
identity scheduler /CN=system:kube-scheduler
for node; do
	identity "${node%%=*}" "/O=system:nodes/CN=system:node:${node%%=*}"
	issue "kubelet-${node%%=*}" /CN=kubelet-serving "subjectAltName=IP:${node#*=}"
done
