package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// pod is one running pod; its life is the text of run.
type pod struct {
	*runner
	mu         sync.Mutex
	spec       *corev1.Pod
	forced     bool
	changed    chan struct{}
	sandbox    *sandbox
	containers map[string]*container
	started    metav1.Time
	logDir     string
}

type container struct {
	cmd      *exec.Cmd
	started  metav1.Time
	restarts int32
	ready    bool
	exited   *corev1.ContainerStateTerminated
	waiting  string
}

func (p *pod) set(update *corev1.Pod) { p.mu.Lock(); p.spec = update; p.mu.Unlock(); p.notify() }
func (p *pod) force()                 { p.mu.Lock(); p.forced = true; p.mu.Unlock(); p.notify() }
func (p *pod) notify() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

func (p *pod) latest() (*corev1.Pod, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.spec, p.forced || p.spec.DeletionTimestamp != nil
}

func (p *pod) run(ctx context.Context) {
	spec, stop := p.latest()
	p.started = metav1.Now()
	defer func() { p.runner.mu.Lock(); delete(p.runner.pods, spec.UID); p.runner.mu.Unlock() }()
	if !stop {
		var err error
		if p.sandbox, err = p.newSandbox(spec); err != nil {
			fmt.Fprintln(os.Stderr, spec.Name, err)
			return
		}
		defer p.sandbox.close()
		live, cancel := context.WithCancel(ctx)
		go p.live(live, spec)
		for !stop {
			<-p.changed
			p.report(ctx)
			spec, stop = p.latest()
		}
		cancel()
		p.stopAll(spec)
		p.report(ctx)
	}
	zero := int64(0)
	err := p.client.CoreV1().Pods(spec.Namespace).Delete(ctx, spec.Name, metav1.DeleteOptions{
		GracePeriodSeconds: &zero, Preconditions: &metav1.Preconditions{UID: &spec.UID}})
	fmt.Fprintln(os.Stderr, "gone", spec.Namespace, spec.Name, err)
}

// live mounts the volumes, runs init containers in order, then keeps every container going.
func (p *pod) live(ctx context.Context, spec *corev1.Pod) {
	p.mu.Lock()
	for _, c := range append(append([]corev1.Container{}, spec.Spec.InitContainers...), spec.Spec.Containers...) {
		p.containers[c.Name] = &container{waiting: "ContainerCreating"}
	}
	p.mu.Unlock()
	p.notify()
	sources, err := p.writeVolumes(ctx, spec)
	for ; err != nil; sources, err = p.writeVolumes(ctx, spec) {
		fmt.Fprintln(os.Stderr, spec.Name, err)
		if !wait(ctx, 300*time.Millisecond) {
			return
		}
	}
	for _, c := range spec.Spec.InitContainers {
		for p.once(ctx, spec, c, sources) != 0 {
			if ctx.Err() != nil || spec.Spec.RestartPolicy == corev1.RestartPolicyNever {
				return
			}
			time.Sleep(time.Second)
		}
	}
	for _, c := range spec.Spec.Containers {
		go func() {
			for backoff := time.Second; ; backoff = min(2*backoff, 10*time.Second) {
				code := p.once(ctx, spec, c, sources)
				again := spec.Spec.RestartPolicy == corev1.RestartPolicyAlways || code != 0 && spec.Spec.RestartPolicy == corev1.RestartPolicyOnFailure
				if !wait(ctx, backoff) || !again {
					return
				}
			}
		}()
	}
}

// once runs a container to its end and returns the exit code.
func (p *pod) once(ctx context.Context, spec *corev1.Pod, c corev1.Container, sources map[string]string) int32 {
	p.mu.Lock()
	state := p.containers[c.Name]
	p.mu.Unlock()
	update := func(change func()) { p.mu.Lock(); change(); p.mu.Unlock(); p.notify() }
	fail := func(err error) int32 {
		fmt.Fprintln(os.Stderr, spec.Name, c.Name, err)
		update(func() { state.waiting = err.Error() })
		return 128
	}
	argv, err := p.program(c)
	if err != nil {
		return fail(err)
	}
	env, err := p.environment(ctx, spec, c)
	if err != nil {
		return fail(err)
	}
	for i := range argv {
		argv[i] = expand(argv[i], env)
	}
	if c.WorkingDir != "" {
		argv = append([]string{"sh", "-c", `cd "$1" && shift && exec "$@"`, "-", c.WorkingDir}, argv...)
	}
	prefix, err := rights(spec, c)
	if err != nil {
		return fail(err)
	}
	hostname := spec.Name
	if spec.Spec.HostNetwork {
		hostname = p.node
	}
	cmd := p.sandbox.container(p.runner, hostname, binds(c, sources), readOnlyRoot(c), prefix, argv)
	cmd.Env = env
	_ = os.MkdirAll(p.logDir, 0o755)
	log, err := os.OpenFile(p.logFile(spec, c.Name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fail(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if ctx.Err() != nil {
		return 128
	}
	if err := cmd.Start(); err != nil {
		return fail(err)
	}
	update(func() {
		state.cmd, state.started, state.waiting, state.exited, state.ready = cmd, metav1.Now(), "", nil, false
	})
	checking, stop := context.WithCancel(ctx)
	go p.checks(checking, c, cmd.Process.Pid, func(ready bool) { update(func() { state.ready = ready }) }, func(why string) {
		fmt.Fprintln(os.Stderr, spec.Name, c.Name, why)
		p.end(c, cmd, grace(spec))
	})
	_ = cmd.Wait()
	stop()
	code := int32(cmd.ProcessState.ExitCode())
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // as a container's process 1 takes all others with it
	update(func() {
		state.ready, state.cmd = false, nil
		state.restarts++
		state.exited = &corev1.ContainerStateTerminated{ExitCode: code, Reason: map[bool]string{true: "Completed", false: "Error"}[code == 0],
			StartedAt: state.started, FinishedAt: metav1.Now()}
	})
	return code
}

func grace(spec *corev1.Pod) time.Duration {
	seconds := int64(30)
	if spec.Spec.TerminationGracePeriodSeconds != nil {
		seconds = *spec.Spec.TerminationGracePeriodSeconds
	}
	if spec.DeletionGracePeriodSeconds != nil {
		seconds = *spec.DeletionGracePeriodSeconds
	}
	return time.Duration(seconds) * time.Second
}

// end stops one container: preStop hook, SIGTERM to its first process, SIGKILL when the grace period is over.
func (p *pod) end(c corev1.Container, cmd *exec.Cmd, grace time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	pid := cmd.Process.Pid
	if c.Lifecycle != nil && c.Lifecycle.PreStop != nil {
		if hook := c.Lifecycle.PreStop; hook.Exec != nil {
			if cmd, err := p.inside(ctx, c, pid, hook.Exec.Command); err == nil {
				if out, err := cmd.CombinedOutput(); err != nil {
					fmt.Fprintln(os.Stderr, p.spec.Name, c.Name, "preStop:", err, string(out))
				}
			}
		} else if hook.Sleep != nil {
			wait(ctx, time.Duration(hook.Sleep.Seconds)*time.Second)
		}
	}
	running := func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.containers[c.Name].cmd == cmd
	}
	if running() {
		_ = syscall.Kill(pid, syscall.SIGTERM)
	}
	for running() && wait(ctx, 20*time.Millisecond) {
	}
	if running() {
		_ = syscall.Kill(-pid, syscall.SIGKILL)
	}
	for running() {
		time.Sleep(10 * time.Millisecond)
	}
}

func (p *pod) stopAll(spec *corev1.Pod) {
	var all sync.WaitGroup
	for _, c := range spec.Spec.Containers {
		p.mu.Lock()
		state := p.containers[c.Name]
		var cmd *exec.Cmd
		if state != nil {
			cmd = state.cmd
		}
		p.mu.Unlock()
		if cmd != nil {
			all.Go(func() { p.end(c, cmd, grace(spec)) })
		}
	}
	all.Wait()
}

func (p *pod) logFile(spec *corev1.Pod, container string) string {
	return filepath.Join(p.logDir, spec.Namespace+"_"+spec.Name+"_"+container+".log")
}
