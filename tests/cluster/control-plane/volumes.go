package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubernetes/pkg/fieldpath"
)

// writeVolumes makes every volume of the pod in the sandbox and says where each lies.
func (p *pod) writeVolumes(ctx context.Context, spec *corev1.Pod) (map[string]string, error) {
	sources := map[string]string{}
	for _, volume := range spec.Spec.Volumes {
		source := filepath.Join(p.sandbox.dir, "volumes", volume.Name)
		if volume.HostPath != nil {
			source = volume.HostPath.Path
			if err := hostPath(p.sandbox.path(source), volume.HostPath.Type); err != nil {
				return nil, fmt.Errorf("volume %s: %w", volume.Name, err)
			}
		} else {
			files, err := p.volumeFiles(ctx, spec, volume.VolumeSource)
			if err != nil {
				return nil, fmt.Errorf("volume %s: %w", volume.Name, err)
			}
			if err := p.writeVolume(spec, p.sandbox.path(source), files, volume.EmptyDir != nil); err != nil {
				return nil, err
			}
		}
		sources[volume.Name] = source
	}
	return sources, nil
}

// writeVolume sets modes and group as a kubelet does: emptyDir is open to all, files are readable by the fsGroup.
func (p *pod) writeVolume(spec *corev1.Pod, dir string, files map[string][]byte, open bool) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	group, dirMode, fileMode := 0, os.FileMode(0o755), os.FileMode(0o644)
	if s := spec.Spec.SecurityContext; s != nil && s.FSGroup != nil {
		group, dirMode, fileMode = int(*s.FSGroup), 0o775|os.ModeSetgid, 0o640
	}
	if open {
		dirMode |= 0o777
	}
	if err := os.Chown(dir, 0, group); err != nil {
		return err
	}
	if err := os.Chmod(dir, dirMode); err != nil {
		return err
	}
	for name, data := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, data, fileMode); err != nil {
			return err
		}
		if err := os.Chown(file, 0, group); err != nil {
			return err
		}
	}
	return nil
}

func hostPath(path string, kind *corev1.HostPathType) error {
	if kind == nil || *kind == corev1.HostPathUnset {
		return nil
	}
	if *kind == corev1.HostPathDirectoryOrCreate {
		return os.MkdirAll(path, 0o755)
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if *kind == corev1.HostPathDirectory && !info.IsDir() {
		return fmt.Errorf("%s is not a directory", path)
	}
	return nil
}

// binds is what one container mounts, in the order of the pod's text; a mount below another comes after it.
func binds(c corev1.Container, sources map[string]string) []bind {
	var list []bind
	for _, mount := range c.VolumeMounts {
		list = append(list, bind{filepath.Join(sources[mount.Name], mount.SubPath), mount.MountPath, mount.ReadOnly})
	}
	slices.SortStableFunc(list, func(a, b bind) int { return len(a.target) - len(b.target) })
	return list
}

func (p *pod) volumeFiles(ctx context.Context, spec *corev1.Pod, v corev1.VolumeSource) (map[string][]byte, error) {
	files := map[string][]byte{}
	var err error
	switch {
	case v.ConfigMap != nil:
		err = p.configMapFiles(ctx, spec, v.ConfigMap.Name, v.ConfigMap.Items, v.ConfigMap.Optional, files)
	case v.Secret != nil:
		err = p.secretFiles(ctx, spec, v.Secret.SecretName, v.Secret.Items, v.Secret.Optional, files)
	case v.DownwardAPI != nil:
		err = downwardFiles(spec, v.DownwardAPI.Items, files)
	case v.Projected != nil:
		for _, source := range v.Projected.Sources {
			switch {
			case source.ServiceAccountToken != nil:
				err = p.token(ctx, spec, source.ServiceAccountToken, files)
			case source.ConfigMap != nil:
				err = p.configMapFiles(ctx, spec, source.ConfigMap.Name, source.ConfigMap.Items, source.ConfigMap.Optional, files)
			case source.Secret != nil:
				err = p.secretFiles(ctx, spec, source.Secret.Name, source.Secret.Items, source.Secret.Optional, files)
			case source.DownwardAPI != nil:
				err = downwardFiles(spec, source.DownwardAPI.Items, files)
			}
			if err != nil {
				return nil, err
			}
		}
	case v.EmptyDir != nil:
	default:
		err = fmt.Errorf("unsupported source")
	}
	return files, err
}

func (p *pod) token(ctx context.Context, spec *corev1.Pod, source *corev1.ServiceAccountTokenProjection, files map[string][]byte) error {
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: source.ExpirationSeconds,
		BoundObjectRef: &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: spec.Name, UID: spec.UID}}}
	if source.Audience != "" {
		request.Spec.Audiences = []string{source.Audience}
	}
	account := spec.Spec.ServiceAccountName
	if account == "" {
		account = "default"
	}
	got, err := p.client.CoreV1().ServiceAccounts(spec.Namespace).CreateToken(ctx, account, request, metav1.CreateOptions{})
	if err == nil {
		files[source.Path] = []byte(got.Status.Token)
	}
	return err
}

func pick(data map[string][]byte, items []corev1.KeyToPath, files map[string][]byte) {
	if len(items) == 0 {
		for name, value := range data {
			files[name] = value
		}
	}
	for _, item := range items {
		if value, ok := data[item.Key]; ok {
			files[item.Path] = value
		}
	}
}

func (p *pod) configMapFiles(ctx context.Context, spec *corev1.Pod, name string, items []corev1.KeyToPath, optional *bool, files map[string][]byte) error {
	got, err := p.client.CoreV1().ConfigMaps(spec.Namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		if optional != nil && *optional {
			return nil
		}
		return err
	}
	data := got.BinaryData
	if data == nil {
		data = map[string][]byte{}
	}
	for k, v := range got.Data {
		data[k] = []byte(v)
	}
	pick(data, items, files)
	return nil
}

func (p *pod) secretFiles(ctx context.Context, spec *corev1.Pod, name string, items []corev1.KeyToPath, optional *bool, files map[string][]byte) error {
	got, err := p.client.CoreV1().Secrets(spec.Namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		if optional != nil && *optional {
			return nil
		}
		return err
	}
	pick(got.Data, items, files)
	return nil
}

func downwardFiles(spec *corev1.Pod, items []corev1.DownwardAPIVolumeFile, files map[string][]byte) error {
	for _, item := range items {
		if item.FieldRef != nil {
			value, err := fieldpath.ExtractFieldPathAsString(spec, item.FieldRef.FieldPath)
			if err != nil {
				return err
			}
			files[item.Path] = []byte(value)
		}
	}
	return nil
}
