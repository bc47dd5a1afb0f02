package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	corev1 "k8s.io/api/core/v1"
)

// sandbox is what the containers of a pod share: the network namespace and the volumes, both held by one
// "pause" process. Its mount namespace is the parent of the containers' own.
type sandbox struct {
	pause *exec.Cmd
	ip    string
	dir   string // a tmpfs inside the mount namespace: volumes/, and root/ where containers build their root
}

const pauseScript = `set -e
mount -t tmpfs -o mode=0755 tmpfs "$1"
mkdir "$1/volumes" "$1/root"
echo ready
exec sleep infinity`

// containerScript builds a root like the one a container runtime gives, then becomes the program.
// Only what the pod mounts is writable, and with readOnlyRootFilesystem not even the rest of the root.
const containerScript = `set -e
root=$1 images=$2 hostname=$3 mounts=$4 readonly=$5; shift 5
mount -t tmpfs -o mode=0755 tmpfs "$root"
cd "$root"
mkdir -p etc tmp root run var/lib var/log images usr proc sys dev/shm dev/pts
chmod 1777 tmp
ln -s ../run var/run
for f in passwd group nsswitch.conf ld.so.cache hosts; do [ ! -e "/etc/$f" ] || cp -L "/etc/$f" etc/; done
echo "$hostname" >etc/hostname
for d in bin sbin lib lib64; do if [ -L "/$d" ]; then cp -P "/$d" .; else mkdir "$d"; mount --bind -o ro "/$d" "$d"; fi; done
mount --bind -o ro /usr usr
mount --rbind "$images" images
mount --bind /proc proc
mount --bind -o ro /proc/sys proc/sys
mount --bind -o ro /sys sys
for f in null zero full random urandom; do : >"dev/$f"; mount --bind "/dev/$f" "dev/$f"; done
mount -t tmpfs -o mode=1777 tmpfs dev/shm
tab=$(printf '\t')
printf '%s' "$mounts" | while IFS=$tab read -r source target mode; do
	if [ -d "$source" ]; then mkdir -p "./$target"; else mkdir -p "$(dirname "./$target")"; : >"./$target"; fi
	mount --rbind "$source" "./$target"
	[ "$mode" = rw ] || mount -o remount,bind,ro "./$target"
done
[ "$readonly" = false ] || mount -o remount,bind,ro "$root"
cd "$root"
exec /usr/sbin/chroot "$root" "$@"`

func (r *runner) newSandbox(p *corev1.Pod) (*sandbox, error) {
	dir := filepath.Join(r.dir, string(p.UID))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	args := []string{"-m", "--propagation", "private"}
	if !p.Spec.HostNetwork {
		args = append(args, "-n")
	}
	s := &sandbox{ip: r.nodeIP, dir: dir}
	s.pause = exec.Command("unshare", append(args, "sh", "-c", pauseScript, "pause", dir)...)
	s.pause.Stderr = os.Stderr
	s.pause.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := s.pause.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.pause.Start(); err != nil {
		return nil, err
	}
	if n, err := out.Read(make([]byte, 6)); n == 0 {
		return nil, fmt.Errorf("sandbox: %v", err)
	}
	if p.Spec.HostNetwork {
		return s, nil
	}
	s.ip = r.allocateIP()
	script := fmt.Sprintf(`set -e
ip link add p%[1]d type veth peer name eth0 netns %[1]d
ip link set p%[1]d master %[2]s up
nsenter -t %[1]d -n ip -batch - <<END
link set lo up
addr add %[3]s/%[4]d dev eth0
link set eth0 up
route add default via %[5]s
END`, s.pause.Process.Pid, r.bridge, s.ip, r.prefix, r.gateway)
	if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("network: %v: %s", err, out)
	}
	return s, nil
}

// path leads from this process to a path inside the sandbox's mount namespace.
func (s *sandbox) path(inside string) string {
	return filepath.Join(fmt.Sprintf("/proc/%d/root", s.pause.Process.Pid), inside)
}

// bind is one line of what a container mounts.
type bind struct {
	source, target string
	readOnly       bool
}

// container is the command that builds a container's root and runs argv in it; `rights` is a setpriv prefix.
// The process it starts is the program itself: every step before it execs the next.
func (s *sandbox) container(r *runner, hostname string, binds []bind, readOnlyRoot bool, rights, argv []string) *exec.Cmd {
	var mounts strings.Builder
	for _, b := range binds {
		mode := "rw"
		if b.readOnly {
			mode = "ro"
		}
		fmt.Fprintf(&mounts, "%s\t%s\t%s\n", b.source, strings.TrimPrefix(b.target, "/"), mode)
	}
	args := []string{"-t", fmt.Sprint(s.pause.Process.Pid), "-n", "-m", "--", "unshare", "-m", "--propagation", "private", "sh", "-c", containerScript,
		"container", filepath.Join(s.dir, "root"), r.imageDir, hostname, mounts.String(), fmt.Sprint(readOnlyRoot)}
	cmd := exec.Command("nsenter", append(append(args, rights...), argv...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// inside is a further process in a running container, with its rights and environment: kubectl exec, exec probes, lifecycle hooks.
func (p *pod) inside(ctx context.Context, c corev1.Container, pid int, argv []string) (*exec.Cmd, error) {
	spec, _ := p.latest()
	prefix, err := rights(spec, c)
	if err != nil {
		return nil, err
	}
	args := []string{"-t", fmt.Sprint(pid), "-n", "-m", "-r", "-w", "--"}
	cmd := exec.CommandContext(ctx, "nsenter", append(append(args, prefix...), argv...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Env, err = p.environment(ctx, spec, c)
	return cmd, err
}

func (s *sandbox) close() {
	_ = syscall.Kill(-s.pause.Process.Pid, syscall.SIGKILL)
	_ = s.pause.Wait()
	_ = os.Remove(s.dir)
}
