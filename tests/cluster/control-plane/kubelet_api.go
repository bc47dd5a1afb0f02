package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	protocols "k8s.io/apimachinery/pkg/util/remotecommand"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/kubelet/pkg/cri/streaming/portforward"
	streaming "k8s.io/kubelet/pkg/cri/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
)

// serveKubeletAPI answers what the API server proxies for kubectl logs, exec and port-forward.
func (r *runner) serveKubeletAPI(cert, key string) error {
	mux := http.NewServeMux()
	mux.HandleFunc("/containerLogs/{namespace}/{pod}/{container}", r.serveLogs)
	mux.HandleFunc("/exec/{namespace}/{pod}/{container}", r.serveExec)
	mux.HandleFunc("/portForward/{namespace}/{pod}", r.servePortForward)
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	server := &http.Server{Addr: net.JoinHostPort(r.nodeIP, "10250"), Handler: mux}
	return server.ListenAndServeTLS(cert, key)
}

func (r *runner) lookup(w http.ResponseWriter, req *http.Request) (*pod, *corev1.Pod) {
	p := r.podNamed(req.PathValue("namespace"), req.PathValue("pod"))
	if p == nil || p.sandbox == nil {
		http.Error(w, "no such pod here", http.StatusNotFound)
		return nil, nil
	}
	spec, _ := p.latest()
	return p, spec
}

func (r *runner) serveLogs(w http.ResponseWriter, req *http.Request) {
	p, spec := r.lookup(w, req)
	if p == nil {
		return
	}
	q := req.URL.Query()
	lines := q.Get("tailLines")
	if lines == "" {
		lines = "+1"
	}
	args := []string{"-n", lines, p.logFile(spec, req.PathValue("container"))}
	if q.Get("follow") == "true" {
		args = append(args, "-f")
	}
	cmd := exec.CommandContext(req.Context(), "tail", args...)
	cmd.Stdout = flushing{w}
	_ = cmd.Run()
}

type flushing struct{ http.ResponseWriter }

func (f flushing) Write(data []byte) (int, error) {
	n, err := f.ResponseWriter.Write(data)
	f.ResponseWriter.(http.Flusher).Flush()
	return n, err
}

func (r *runner) serveExec(w http.ResponseWriter, req *http.Request) {
	p, spec := r.lookup(w, req)
	if p == nil {
		return
	}
	options, err := streaming.NewOptions(req)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	streaming.ServeExec(w, req, p, spec.Name, spec.UID, req.PathValue("container"), req.URL.Query()["command"], options,
		time.Hour, 30*time.Second, protocols.SupportedStreamingProtocols)
}

// ExecInContainer has no terminal: -t is accepted, the program sees pipes.
func (p *pod) ExecInContainer(ctx context.Context, _ string, _ types.UID, name string, argv []string, in io.Reader, out, errOut io.WriteCloser,
	_ bool, _ <-chan remotecommand.TerminalSize, _ time.Duration) error {
	spec, _ := p.latest()
	at := slices.IndexFunc(spec.Spec.Containers, func(c corev1.Container) bool { return c.Name == name })
	p.mu.Lock()
	state := p.containers[name]
	p.mu.Unlock()
	if at < 0 || state == nil || state.cmd == nil {
		return fmt.Errorf("container %q is not running", name)
	}
	cmd, err := p.inside(ctx, spec.Spec.Containers[at], state.cmd.Process.Pid, argv)
	if err != nil {
		return err
	}
	if in != nil {
		pipe, err := cmd.StdinPipe() // Wait must not wait for the client's stdin to end
		if err != nil {
			return err
		}
		go func() { _, _ = io.Copy(pipe, in); pipe.Close() }()
	}
	cmd.Stdout = out
	if cmd.Stderr = errOut; errOut == nil {
		cmd.Stderr = out
	}
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return &utilexec.ExitErrorWrapper{ExitError: exit}
	}
	return err
}

func (r *runner) servePortForward(w http.ResponseWriter, req *http.Request) {
	p, spec := r.lookup(w, req)
	if p == nil {
		return
	}
	options, err := portforward.NewV4Options(req)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	portforward.ServePortForward(w, req, p, spec.Name, spec.UID, options, time.Hour, 30*time.Second, portforward.SupportedProtocols)
}

func (p *pod) PortForward(_ context.Context, _ string, _ types.UID, port int32, stream io.ReadWriteCloser) error {
	conn, err := net.Dial("tcp", net.JoinHostPort(p.sandbox.ip, fmt.Sprint(port)))
	if err != nil {
		return err
	}
	defer conn.Close()
	done := make(chan struct{}, 2)
	go func() { _, _ = io.Copy(conn, stream); done <- struct{}{} }()
	go func() { _, _ = io.Copy(stream, conn); done <- struct{}{} }()
	<-done
	return nil
}
