package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// report writes the pod's status.
func (p *pod) report(ctx context.Context) {
	p.mu.Lock()
	spec := p.spec
	now := metav1.Now()
	running, ready, failed := 0, true, false
	statuses := func(list []corev1.Container) (out []corev1.ContainerStatus) {
		for _, c := range list {
			state := p.containers[c.Name]
			if state == nil {
				continue
			}
			s := corev1.ContainerStatus{Name: c.Name, Image: c.Image, ImageID: c.Image, Ready: state.ready, RestartCount: state.restarts}
			started := state.cmd != nil
			s.Started = &started
			switch {
			case state.cmd != nil:
				s.State.Running = &corev1.ContainerStateRunning{StartedAt: state.started}
				s.ContainerID = fmt.Sprintf("pod-runner://%d", state.cmd.Process.Pid)
			case state.exited != nil:
				s.State.Terminated, s.RestartCount = state.exited, state.restarts-1
			default:
				s.State.Waiting = &corev1.ContainerStateWaiting{Reason: "ContainerCreating", Message: state.waiting}
			}
			out = append(out, s)
		}
		return
	}
	inits := statuses(spec.Spec.InitContainers)
	mains := statuses(spec.Spec.Containers)
	phase, finished := corev1.PodRunning, len(mains) > 0
	for _, s := range mains {
		ready = ready && s.Ready
		if s.State.Terminated == nil {
			finished = false
			if s.State.Running != nil {
				running++
			}
		} else {
			running++
			failed = failed || s.State.Terminated.ExitCode != 0
		}
	}
	switch {
	case running == 0:
		phase = corev1.PodPending
	case finished && spec.Spec.RestartPolicy == corev1.RestartPolicyNever && failed:
		phase = corev1.PodFailed
	case finished && !failed && spec.Spec.RestartPolicy != corev1.RestartPolicyAlways:
		phase = corev1.PodSucceeded
	}
	p.mu.Unlock()
	ready = ready && len(mains) > 0
	gates := true
	for _, gate := range spec.Spec.ReadinessGates {
		ok := false
		for _, c := range spec.Status.Conditions {
			ok = ok || c.Type == gate.ConditionType && c.Status == corev1.ConditionTrue
		}
		gates = gates && ok
	}
	condition := func(kind corev1.PodConditionType, value bool) corev1.PodCondition {
		status := map[bool]corev1.ConditionStatus{true: corev1.ConditionTrue, false: corev1.ConditionFalse}[value]
		for _, c := range spec.Status.Conditions {
			if c.Type == kind && c.Status == status {
				return corev1.PodCondition{Type: kind, Status: status, LastTransitionTime: c.LastTransitionTime}
			}
		}
		return corev1.PodCondition{Type: kind, Status: status, LastTransitionTime: now}
	}
	status := corev1.PodStatus{Phase: phase, HostIP: p.nodeIP, HostIPs: []corev1.HostIP{{IP: p.nodeIP}}, StartTime: &p.started,
		PodIP: p.sandbox.ip, PodIPs: []corev1.PodIP{{IP: p.sandbox.ip}}, InitContainerStatuses: inits, ContainerStatuses: mains,
		Conditions: []corev1.PodCondition{condition(corev1.PodInitialized, running > 0), condition(corev1.ContainersReady, ready),
			condition(corev1.PodReady, ready && gates), condition("PodReadyToStartContainers", true)}}
	var fields map[string]any
	raw, _ := json.Marshal(status)
	_ = json.Unmarshal(raw, &fields)
	// podIPs is a map list keyed by ip: without this, a restarted runner's new address is added to the old one
	fields["podIPs"] = []any{map[string]any{"$patch": "replace"}, map[string]any{"ip": p.sandbox.ip}}
	patch, _ := json.Marshal(map[string]any{"metadata": map[string]any{"uid": spec.UID}, "status": fields})
	if _, err := p.client.CoreV1().Pods(spec.Namespace).Patch(ctx, spec.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
		fmt.Fprintln(os.Stderr, "status", spec.Name, err)
	}
}
