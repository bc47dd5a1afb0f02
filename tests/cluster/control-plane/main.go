// kube-control-plane: etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubectl and a
// kubelet without containers in one binary, one sub-command each. All flags are the upstream ones.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

var components = map[string]func() *cobra.Command{
	"kube-apiserver":          apiserver.NewAPIServerCommand,
	"kube-controller-manager": controllermanager.NewControllerManagerCommand,
	"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
	"kubectl":                 kubectl.NewDefaultKubectlCommand,
	"etcd":                    newEtcdCommand,
	"pod-runner":              newPodRunnerCommand,
}

// The component is argv[0] when linked under that name, otherwise argv[1].
func main() {
	name := filepath.Base(os.Args[0])
	if components[name] == nil && len(os.Args) > 1 {
		name = os.Args[1]
		os.Args = os.Args[1:]
	}
	build := components[name]
	if build == nil {
		fmt.Fprintln(os.Stderr, "usage: kube-control-plane etcd|kube-apiserver|kube-controller-manager|kube-scheduler|kubectl|pod-runner [flags]")
		os.Exit(2)
	}
	os.Args[0] = name
	if name == "kubectl" {
		if err := cli.RunNoErrOutput(build()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(cli.Run(build()))
}
