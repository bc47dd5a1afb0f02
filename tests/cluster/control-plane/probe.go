package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// checks runs the probes of a running container: the startup probe first, then readiness and liveness side by side.
// Probes come every 100 ms until the first success, to keep tests short, and then in their period.
func (p *pod) checks(ctx context.Context, c corev1.Container, pid int, ready func(bool), kill func(why string)) {
	check := func(probe *corev1.Probe) error { return p.check(ctx, c, pid, probe) }
	if c.StartupProbe != nil && !until(ctx, c.StartupProbe, check, kill) {
		return
	}
	if c.LivenessProbe != nil {
		go func() {
			if wait(ctx, time.Duration(c.LivenessProbe.InitialDelaySeconds)*time.Second) {
				watch(ctx, c.LivenessProbe, check, true, func(alive bool) {
					if !alive {
						kill("liveness probe failed")
					}
				})
			}
		}()
	}
	if c.ReadinessProbe == nil {
		ready(true)
		return
	}
	watch(ctx, c.ReadinessProbe, check, false, ready)
}

// until returns true once the probe succeeds; after failureThreshold periods it ends the container.
func until(ctx context.Context, probe *corev1.Probe, check func(*corev1.Probe) error, kill func(string)) bool {
	deadline := time.Now().Add(period(probe) * time.Duration(max(1, probe.FailureThreshold)))
	for ctx.Err() == nil {
		if check(probe) == nil {
			return true
		}
		if time.Now().After(deadline) {
			kill("startup probe failed")
			return false
		}
		wait(ctx, 100*time.Millisecond)
	}
	return false
}

// watch reports each change of the answer; it takes failureThreshold failures in a row to change it to false.
func watch(ctx context.Context, probe *corev1.Probe, check func(*corev1.Probe) error, was bool, changed func(bool)) {
	failures := int32(0)
	for ctx.Err() == nil {
		err := check(probe)
		if ctx.Err() != nil {
			return
		}
		pause := period(probe)
		if err == nil {
			failures = 0
			if !was {
				was = true
				changed(true)
			}
		} else if failures++; was && failures >= max(1, probe.FailureThreshold) {
			was = false
			changed(false)
		}
		if !was {
			pause = 100 * time.Millisecond
		}
		wait(ctx, pause)
	}
}

func period(probe *corev1.Probe) time.Duration {
	return time.Duration(max(1, probe.PeriodSeconds)) * time.Second
}

// wait returns false when the context ended first.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func (p *pod) check(ctx context.Context, c corev1.Container, pid int, probe *corev1.Probe) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(max(1, probe.TimeoutSeconds))*time.Second)
	defer cancel()
	switch {
	case probe.HTTPGet != nil:
		scheme := "http"
		if probe.HTTPGet.Scheme == corev1.URISchemeHTTPS {
			scheme = "https"
		}
		host := p.sandbox.ip
		if probe.HTTPGet.Host != "" {
			host = probe.HTTPGet.Host
		}
		request, err := http.NewRequestWithContext(ctx, "GET", fmt.Sprintf("%s://%s%s", scheme, net.JoinHostPort(host, fmt.Sprint(port(c, probe.HTTPGet.Port))), probe.HTTPGet.Path), nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		response.Body.Close()
		if response.StatusCode >= 400 {
			return errors.New(response.Status)
		}
	case probe.TCPSocket != nil:
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(p.sandbox.ip, fmt.Sprint(port(c, probe.TCPSocket.Port))))
		if err != nil {
			return err
		}
		conn.Close()
	case probe.Exec != nil:
		cmd, err := p.inside(ctx, c, pid, probe.Exec.Command)
		if err != nil {
			return err
		}
		return cmd.Run()
	}
	return nil
}

func port(c corev1.Container, p intstr.IntOrString) int32 {
	for _, named := range c.Ports {
		if p.Type == intstr.String && named.Name == p.StrVal {
			return named.ContainerPort
		}
	}
	return int32(p.IntValue())
}
