// SPDX-License-Identifier: Apache-2.0

// What serves the Kubernetes API, and asks it: one program, called by the name of a link to it.
package main

import (
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	var program *cobra.Command
	switch filepath.Base(os.Args[0]) {
	case "etcd":
		etcdmain.Main(os.Args)
		return
	case "kube-apiserver":
		program = apiserver.NewAPIServerCommand()
	case "kubectl":
		program = kubectl.NewDefaultKubectlCommand()
	default:
		os.Stderr.WriteString("call this by a link named etcd, kube-apiserver or kubectl\n")
		os.Exit(2)
	}
	os.Exit(cli.Run(program))
}
