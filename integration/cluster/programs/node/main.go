// SPDX-License-Identifier: Apache-2.0

// What makes a cluster of an API server and nodes: one program, called by the name of a link to it.
package main

import (
	"context"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

func main() {
	var program *cobra.Command
	switch filepath.Base(os.Args[0]) {
	case "kube-controller-manager":
		program = controllers.NewControllerManagerCommand()
	case "kube-proxy":
		program = proxy.NewProxyCommand()
	case "kube-scheduler":
		program = scheduler.NewSchedulerCommand()
	case "kubelet":
		program = kubelet.NewKubeletCommand(context.Background())
	default:
		os.Stderr.WriteString("call this by a link named kube-controller-manager, kube-proxy, " +
			"kube-scheduler or kubelet\n")
		os.Exit(2)
	}
	os.Exit(cli.Run(program))
}
