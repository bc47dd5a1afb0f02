package main

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// What a container runtime leaves to a container that asks for nothing.
var defaultCapabilities = []string{"CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID",
	"SETFCAP", "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE"}

// Numbers, because older setpriv does not know the newer names.
var capabilityNumbers = map[string]int{"CHOWN": 0, "DAC_OVERRIDE": 1, "DAC_READ_SEARCH": 2, "FOWNER": 3, "FSETID": 4, "KILL": 5,
	"SETGID": 6, "SETUID": 7, "SETPCAP": 8, "NET_BIND_SERVICE": 10, "NET_ADMIN": 12, "NET_RAW": 13, "IPC_LOCK": 14, "SYS_CHROOT": 18,
	"SYS_PTRACE": 19, "SYS_ADMIN": 21, "SYS_RESOURCE": 24, "MKNOD": 27, "AUDIT_WRITE": 29, "SETFCAP": 31, "PERFMON": 38, "BPF": 39}

// rights turns the securityContext of a container into a setpriv command line, as a runtime would apply it: capabilities
// go into the bounding set, so that a root process has exactly these and any other user has none.
func rights(spec *corev1.Pod, c corev1.Container) ([]string, error) {
	pod, own := spec.Spec.SecurityContext, c.SecurityContext
	if pod == nil {
		pod = &corev1.PodSecurityContext{}
	}
	if own == nil {
		own = &corev1.SecurityContext{}
	}
	user, group := int64(0), int64(0)
	for _, u := range []*int64{pod.RunAsUser, own.RunAsUser} {
		if u != nil {
			user = *u
		}
	}
	for _, g := range []*int64{pod.RunAsGroup, own.RunAsGroup} {
		if g != nil {
			group = *g
		}
	}
	nonRoot := pod.RunAsNonRoot != nil && *pod.RunAsNonRoot
	if own.RunAsNonRoot != nil {
		nonRoot = *own.RunAsNonRoot
	}
	if nonRoot && user == 0 {
		return nil, fmt.Errorf("container has runAsNonRoot and image will run as root")
	}
	groups := []string{fmt.Sprint(group)}
	for _, g := range pod.SupplementalGroups {
		groups = append(groups, fmt.Sprint(g))
	}
	if pod.FSGroup != nil {
		groups = append(groups, fmt.Sprint(*pod.FSGroup))
	}
	argv := []string{"/usr/bin/setpriv", fmt.Sprintf("--reuid=%d", user), fmt.Sprintf("--regid=%d", group), "--groups=" + strings.Join(groups, ","), "--inh-caps=-all"}
	if own.Privileged == nil || !*own.Privileged {
		bounding, err := boundingSet(own.Capabilities)
		if err != nil {
			return nil, err
		}
		argv = append(argv, "--bounding-set="+bounding)
	}
	if own.AllowPrivilegeEscalation != nil && !*own.AllowPrivilegeEscalation {
		argv = append(argv, "--no-new-privs")
	}
	return append(argv, "--"), nil
}

func boundingSet(wanted *corev1.Capabilities) (string, error) {
	have := slices.Clone(defaultCapabilities)
	if wanted != nil {
		for _, drop := range wanted.Drop {
			have = slices.DeleteFunc(have, func(name string) bool { return drop == "ALL" || name == string(drop) })
		}
		for _, add := range wanted.Add {
			have = append(have, string(add))
		}
	}
	set := "-all"
	for _, name := range have {
		number, ok := capabilityNumbers[strings.TrimPrefix(name, "CAP_")]
		if !ok {
			return "", fmt.Errorf("capability %q is not known to pod-runner", name)
		}
		set += fmt.Sprintf(",+cap_%d", number)
	}
	return set, nil
}

func readOnlyRoot(c corev1.Container) bool {
	return c.SecurityContext != nil && c.SecurityContext.ReadOnlyRootFilesystem != nil && *c.SecurityContext.ReadOnlyRootFilesystem
}
