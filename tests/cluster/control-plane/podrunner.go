package main

// pod-runner: a kubelet that runs pods without images. A table maps image names to local programs.
// Each pod gets a network namespace on the node's bridge (or the node's own with hostNetwork), each container
// a mount namespace whose root is a tmpfs with the host's /usr bound in read-only, its volumes and the
// rights that its securityContext says; there are probes, restarts, logs, exec and port-forward.

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

type image struct {
	Match   string   `json:"match"`   // substring of the image name
	Command []string `json:"command"` // stands for ENTRYPOINT; paths under /images
}

type runner struct {
	client                kubernetes.Interface
	node, nodeIP, apiHost string
	bridge                string // the pods' bridge on this node
	gateway               net.IP // its address, first of the node's range; pods get the next ones
	prefix                int
	dir, imageDir         string
	images                []image
	mu                    sync.Mutex
	pods                  map[types.UID]*pod
	lastIP                byte
}

func newPodRunnerCommand() *cobra.Command {
	r := &runner{pods: map[types.UID]*pod{}}
	var kubeconfig, table, cert, key, cidr string
	cmd := &cobra.Command{Use: "pod-runner", RunE: func(cmd *cobra.Command, _ []string) error {
		raw, err := os.ReadFile(table)
		if err == nil {
			err = json.Unmarshal(raw, &r.images)
		}
		if err != nil {
			return err
		}
		_, network, err := net.ParseCIDR(cidr)
		if err != nil {
			return err
		}
		r.prefix, _ = network.Mask.Size()
		r.gateway = network.IP.To4()
		r.gateway[3]++
		r.lastIP = r.gateway[3]
		config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
		if err != nil {
			return err
		}
		config.QPS, config.Burst = 200, 400
		if r.client, err = kubernetes.NewForConfig(config); err != nil {
			return err
		}
		ctx := cmd.Context()
		if err := r.registerNode(ctx); err != nil {
			return err
		}
		go r.heartbeat(ctx)
		go func() { panic(r.serveKubeletAPI(cert, key)) }()
		again := make(chan os.Signal, 1)
		signal.Notify(again, syscall.SIGHUP)
		for ctx.Err() == nil {
			watch, cancel := context.WithCancel(ctx)
			r.watchPods(ctx, watch)
			select {
			case <-again:
			case <-ctx.Done():
			}
			cancel()
		}
		return nil
	}}
	f := cmd.Flags()
	f.StringVar(&kubeconfig, "kubeconfig", "", "identity system:node:NAME")
	f.StringVar(&r.node, "node", "node-0", "node name")
	f.StringVar(&r.nodeIP, "node-ip", "", "node address")
	f.StringVar(&r.apiHost, "api-host", "", "given to pods as KUBERNETES_SERVICE_HOST, port 6443")
	f.StringVar(&cidr, "pod-cidr", "", "a /24: the bridge has its first address, pods get the others")
	f.StringVar(&r.bridge, "bridge", "cni0", "bridge the pods attach to")
	f.StringVar(&r.dir, "dir", "pods", "state directory")
	f.StringVar(&r.imageDir, "image-dir", "", "directory shown to pods as /images")
	f.StringVar(&table, "images", "images.json", "image table")
	f.StringVar(&cert, "tls-cert-file", "", "serving certificate")
	f.StringVar(&key, "tls-private-key-file", "", "serving key")
	return cmd
}

func (r *runner) registerNode(ctx context.Context) error {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: r.node, Labels: map[string]string{
		"kubernetes.io/hostname": r.node, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}}}
	if _, err := r.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	return r.nodeStatus(ctx)
}

func (r *runner) nodeStatus(ctx context.Context) error {
	now := metav1.Now()
	condition := func(kind corev1.NodeConditionType, status corev1.ConditionStatus) corev1.NodeCondition {
		return corev1.NodeCondition{Type: kind, Status: status, Reason: "PodRunner", LastHeartbeatTime: now, LastTransitionTime: now}
	}
	resources := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("64"),
		corev1.ResourceMemory: resource.MustParse("256Gi"), corev1.ResourcePods: resource.MustParse("200"),
		corev1.ResourceEphemeralStorage: resource.MustParse("1Ti")}
	status := corev1.NodeStatus{
		Capacity: resources, Allocatable: resources,
		Conditions: []corev1.NodeCondition{
			condition(corev1.NodeReady, corev1.ConditionTrue), condition(corev1.NodeMemoryPressure, corev1.ConditionFalse),
			condition(corev1.NodeDiskPressure, corev1.ConditionFalse), condition(corev1.NodePIDPressure, corev1.ConditionFalse)},
		Addresses:       []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: r.nodeIP}, {Type: corev1.NodeHostName, Address: r.node}},
		DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: 10250}},
		NodeInfo:        corev1.NodeSystemInfo{KubeletVersion: "v1.35.4", OperatingSystem: "linux", Architecture: "amd64", ContainerRuntimeVersion: "pod-runner://0"},
	}
	patch, _ := json.Marshal(map[string]any{"status": status})
	_, err := r.client.CoreV1().Nodes().PatchStatus(ctx, r.node, patch)
	return err
}

func (r *runner) heartbeat(ctx context.Context) {
	leases := r.client.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	seconds := int32(40)
	for {
		now := metav1.NowMicro()
		spec := coordinationv1.LeaseSpec{HolderIdentity: &r.node, LeaseDurationSeconds: &seconds, RenewTime: &now}
		lease, err := leases.Get(ctx, r.node, metav1.GetOptions{})
		if err == nil {
			lease.Spec = spec
			_, err = leases.Update(ctx, lease, metav1.UpdateOptions{})
		} else if apierrors.IsNotFound(err) {
			_, err = leases.Create(ctx, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: r.node}, Spec: spec}, metav1.CreateOptions{})
		}
		if err == nil {
			err = r.nodeStatus(ctx)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "heartbeat:", err)
		}
		time.Sleep(10 * time.Second)
	}
}

// watchPods lists the node's pods and follows them until watch ends; pods live on in ctx. What is not in the list
// any more is stopped: a list made anew is what a kubelet has after its restart, as one owes it to a restored etcd
// (a watch from a version that is yet to come again sees nothing until then).
func (r *runner) watchPods(ctx, watch context.Context) {
	factory := informers.NewSharedInformerFactoryWithOptions(r.client, 0, informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", r.node).String()
	}))
	seen := func(object any) {
		update := object.(*corev1.Pod)
		if update.Status.Phase == corev1.PodSucceeded || update.Status.Phase == corev1.PodFailed {
			if update.DeletionTimestamp == nil {
				return
			}
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		p := r.pods[update.UID]
		if p == nil {
			p = &pod{runner: r, spec: update, containers: map[string]*container{}, changed: make(chan struct{}, 1), logDir: filepath.Join(r.dir, "logs")}
			r.pods[update.UID] = p
			go p.run(ctx)
		}
		p.set(update)
	}
	informer := factory.Core().V1().Pods().Informer()
	_, _ = informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    seen,
		UpdateFunc: func(_, object any) { seen(object) },
		DeleteFunc: func(object any) {
			if gone, ok := object.(cache.DeletedFinalStateUnknown); ok {
				object = gone.Obj
			}
			if p := r.pod(object.(*corev1.Pod).UID); p != nil {
				p.force()
			}
		},
	})
	factory.Start(watch.Done())
	if !cache.WaitForCacheSync(watch.Done(), informer.HasSynced) {
		return
	}
	listed := map[types.UID]bool{}
	for _, object := range informer.GetStore().List() {
		listed[object.(*corev1.Pod).UID] = true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for uid, p := range r.pods {
		if !listed[uid] {
			p.force()
		}
	}
}

func (r *runner) pod(uid types.UID) *pod {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pods[uid]
}

func (r *runner) podNamed(namespace, name string) *pod {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.pods {
		if p.spec.Namespace == namespace && p.spec.Name == name {
			return p
		}
	}
	return nil
}

// allocateIP goes round the node's /24; a rig does not live long enough to meet an address that is still in use.
func (r *runner) allocateIP() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lastIP++; r.lastIP > 250 {
		r.lastIP = r.gateway[3] + 1
	}
	return net.IPv4(r.gateway[0], r.gateway[1], r.gateway[2], r.lastIP).String()
}

func (r *runner) program(c corev1.Container) ([]string, error) {
	if len(c.Command) > 0 {
		return append(append([]string{}, c.Command...), c.Args...), nil
	}
	for _, known := range r.images {
		if strings.Contains(c.Image, known.Match) {
			return append(append([]string{}, known.Command...), c.Args...), nil
		}
	}
	return nil, fmt.Errorf("image %q is not in the image table", c.Image)
}
