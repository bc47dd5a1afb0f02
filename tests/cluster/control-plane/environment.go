package main

import (
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/fieldpath"
)

func (p *pod) environment(ctx context.Context, spec *corev1.Pod, c corev1.Container) ([]string, error) {
	env := []string{"PATH=/images:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "HOSTNAME=" + spec.Name,
		"KUBERNETES_SERVICE_HOST=" + p.apiHost, "KUBERNETES_SERVICE_PORT=6443", "KUBERNETES_SERVICE_PORT_HTTPS=6443"}
	for _, from := range c.EnvFrom {
		values := map[string][]byte{}
		var err error
		if from.ConfigMapRef != nil {
			err = p.configMapFiles(ctx, spec, from.ConfigMapRef.Name, nil, from.ConfigMapRef.Optional, values)
		} else if from.SecretRef != nil {
			err = p.secretFiles(ctx, spec, from.SecretRef.Name, nil, from.SecretRef.Optional, values)
		}
		if err != nil {
			return nil, err
		}
		for k, v := range values {
			env = append(env, from.Prefix+k+"="+string(v))
		}
	}
	for _, e := range c.Env {
		value, source := expand(e.Value, env), e.ValueFrom
		if source != nil {
			values := map[string][]byte{}
			var err error
			switch {
			case source.FieldRef != nil:
				value, err = p.field(spec, source.FieldRef.FieldPath)
			case source.ConfigMapKeyRef != nil:
				err = p.configMapFiles(ctx, spec, source.ConfigMapKeyRef.Name, nil, source.ConfigMapKeyRef.Optional, values)
				value = string(values[source.ConfigMapKeyRef.Key])
			case source.SecretKeyRef != nil:
				err = p.secretFiles(ctx, spec, source.SecretKeyRef.Name, nil, source.SecretKeyRef.Optional, values)
				value = string(values[source.SecretKeyRef.Key])
			}
			if err != nil {
				return nil, err
			}
		}
		env = append(env, e.Name+"="+value)
	}
	return env, nil
}

func (p *pod) field(spec *corev1.Pod, path string) (string, error) {
	switch path {
	case "status.podIP", "status.podIPs":
		return p.sandbox.ip, nil
	case "status.hostIP", "status.hostIPs":
		return p.nodeIP, nil
	case "spec.nodeName":
		return spec.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return spec.Spec.ServiceAccountName, nil
	}
	return fieldpath.ExtractFieldPathAsString(spec, path)
}

// expand replaces $(NAME) in commands and arguments, as a kubelet does.
func expand(text string, env []string) string {
	for _, pair := range env {
		name, value, _ := strings.Cut(pair, "=")
		text = strings.ReplaceAll(text, "$("+name+")", value)
	}
	return text
}
