#!/bin/busybox sh
# The first process of a machine of the tier "kernels": mounts, loads the modules, runs the tests, switches off.
/bin/busybox mkdir -p /proc /sys /dev /run /tmp /root /var
/bin/busybox --install -s /bin
export PATH=/tools:/bin HOME=/root PORTCULLIS_BINARY=/tests/portcullis RUST_BACKTRACE=0
# Without hardware support all takes its time.
export INGRESS_TEST_PATIENCE=180
/bin/mount -t proc proc /proc
/bin/mount -t sysfs sysfs /sys
/bin/mount -t devtmpfs devtmpfs /dev
/bin/mount -t tmpfs tmpfs /run
/bin/mount -t tmpfs tmpfs /tmp
/bin/mount -t bpf bpf /sys/fs/bpf
ln -s /run /var/run
for module in /modules/*.ko; do
	insmod "$module" || echo "kernels: no module $module"
done
ip link set lo up
echo "kernels: started $(uname -r)"
run() {
	name=$1
	shift
	/tests/"$name" "$@"
	echo "kernels: ended $name $?"
}
