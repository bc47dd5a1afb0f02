// cert-manager: the controllers of cert-manager that issue certificates by ACME, and the solver that answers HTTP-01
// challenges. The module's own commands lie in modules that the Go module proxy does not serve, hence these few lines.
//
//	cert-manager controller KUBECONFIG NAMESERVER   until it is ended; looks up names of challenges at NAMESERVER
//	cert-manager acmesolver [FLAGS]                 what a solver pod runs
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/cert-manager/cert-manager/pkg/controller"
	_ "github.com/cert-manager/cert-manager/pkg/controller/acmechallenges"
	"github.com/cert-manager/cert-manager/pkg/controller/acmeorders"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificate-shim/ingresses"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/acme"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/approver"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/issuing"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/keymanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/readiness"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/requestmanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/revisionmanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/trigger"
	_ "github.com/cert-manager/cert-manager/pkg/controller/issuers"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/acme"
	"github.com/cert-manager/cert-manager/pkg/issuer/acme/http/solver"
	logf "github.com/cert-manager/cert-manager/pkg/logs"
)

func main() {
	err := errors.New("usage: cert-manager controller KUBECONFIG NAMESERVER | acmesolver [FLAGS]")
	switch {
	case len(os.Args) == 4 && os.Args[1] == "controller":
		err = control(context.Background(), os.Args[2], os.Args[3])
	case len(os.Args) > 1 && os.Args[1] == "acmesolver":
		err = solve(os.Args[2:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// control runs the controllers, with the settings that cert-manager has without any flag, but with less patience.
func control(ctx context.Context, kubeconfig, nameserver string) error {
	options := controller.ContextOptions{Kubeconfig: kubeconfig, KubernetesAPIQPS: 200, KubernetesAPIBurst: 500}
	options.ClusterResourceNamespace = "kube-system"
	options.HTTP01SolverImage = "quay.io/jetstack/cert-manager-acmesolver:v1.21.2"
	options.HTTP01SolverResourceRequestCPU = resource.MustParse("10m")
	options.HTTP01SolverResourceRequestMemory = resource.MustParse("64Mi")
	options.HTTP01SolverResourceLimitsCPU = resource.MustParse("100m")
	options.HTTP01SolverResourceLimitsMemory = resource.MustParse("64Mi")
	options.ACMEHTTP01SolverRunAsNonRoot = true
	options.HTTP01SolverNameservers = []string{nameserver}
	options.DefaultIssuerKind = "Issuer"
	options.DefaultIssuerGroup = "cert-manager.io"
	options.DefaultAutoCertificateAnnotations = []string{"kubernetes.io/tls-acme"}
	options.CopiedAnnotationPrefixes = []string{"*", "-kubectl.kubernetes.io/", "-fluxcd.io/", "-argocd.argoproj.io/"}
	options.MaxConcurrentChallenges = 60
	options.DNS01CheckRetryPeriod = time.Second // of HTTP-01 as well, in spite of its name
	acmeorders.RequeuePeriod = time.Second
	ctx = logf.NewContext(ctx, logf.Log)
	factory, err := controller.NewContextFactory(ctx, options)
	if err != nil {
		return err
	}
	shared, err := factory.Build()
	if err != nil {
		return err
	}
	ended := make(chan error)
	for name, construct := range controller.Known() {
		one, err := construct(factory)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		go func() { ended <- one.Run(5, ctx) }()
	}
	shared.SharedInformerFactory.Start(ctx.Done())
	shared.KubeSharedInformerFactory.Start(ctx.Done())
	shared.HTTP01ResourceMetadataInformersFactory.Start(ctx.Done())
	return <-ended
}

// solve answers one challenge; the flags are those that cert-manager gives its solver pods.
func solve(arguments []string) error {
	var one solver.HTTP01Solver
	flags := flag.NewFlagSet("acmesolver", flag.ContinueOnError)
	flags.IntVar(&one.ListenPort, "listen-port", 8089, "the port to listen on")
	flags.StringVar(&one.Domain, "domain", "", "the domain of the challenge")
	flags.StringVar(&one.Token, "token", "", "the token of the challenge")
	flags.StringVar(&one.Key, "key", "", "the answer")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	return one.Listen(logf.Log)
}
