// SPDX-License-Identifier: Apache-2.0

// kube-router's own controller of network policies, once, for the objects of a file and the pods of one
// node: what its rules cost is measured beside others.
//
//	kube-router WORLD NODE ADDRESS
//
// WORLD is a List as kubectl prints it. It works in the network namespace that it is started in, by
// iptables and ipset, and ends when all of it is in force: with 1 where the controller logs an error, which it
// does in place of ending, and where it takes longer than five minutes.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/cloudnativelabs/kube-router/v2/pkg/controllers/netpol"
	"github.com/cloudnativelabs/kube-router/v2/pkg/healthcheck"
	"github.com/cloudnativelabs/kube-router/v2/pkg/options"
	"github.com/cloudnativelabs/kube-router/v2/pkg/utils"
	"github.com/coreos/go-iptables/iptables"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/klog/v2"
)

const (
	patience = 5 * time.Minute
	// Of what the controller says of an error; it may show all of its rules.
	shown = 2000
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: kube-router WORLD NODE ADDRESS")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "kube-router:", err)
		os.Exit(1)
	}
}

// objects reads the file. What is on this node has its address as that of its host.
func objects(file, name, address string) ([]runtime.Object, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var list struct{ Items []json.RawMessage }
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, err
	}
	node := &core.Node{ObjectMeta: meta.ObjectMeta{Name: name}}
	node.Status.Addresses = []core.NodeAddress{{Type: core.NodeInternalIP, Address: address}}
	found := []runtime.Object{node}
	for _, item := range list.Items {
		var kind meta.TypeMeta
		if err := json.Unmarshal(item, &kind); err != nil {
			return nil, err
		}
		var object runtime.Object
		switch kind.Kind {
		case "Namespace":
			object = &core.Namespace{}
		case "Pod":
			object = &core.Pod{}
		case "NetworkPolicy":
			object = &networking.NetworkPolicy{}
		default:
			return nil, fmt.Errorf("what is a %s", kind.Kind)
		}
		if err := json.Unmarshal(item, object); err != nil {
			return nil, err
		}
		if pod, is := object.(*core.Pod); is && pod.Spec.NodeName == name {
			pod.Status.HostIP = address
		}
		found = append(found, object)
	}
	return found, nil
}

// wait for the beginning of one more sync.
func wait(beats <-chan *healthcheck.ControllerHeartbeat) error {
	select {
	case <-beats:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("no sync has begun in %s", patience)
	}
}

func run(file, name, address string) error {
	var failed bytes.Buffer
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	klog.SetOutputBySeverity("ERROR", &failed)
	all, err := objects(file, name, address)
	if err != nil {
		return err
	}
	client := fake.NewSimpleClientset(all...)
	factory := informers.NewSharedInformerFactory(client, 0)
	pods := factory.Core().V1().Pods().Informer()
	policies := factory.Networking().V1().NetworkPolicies().Informer()
	namespaces := factory.Core().V1().Namespaces().Informer()
	stop := make(chan struct{})
	factory.Start(stop)
	factory.WaitForCacheSync(stop)

	config := options.NewKubeRouterConfig()
	config.HostnameOverride = name
	config.EnableIPv4, config.EnableIPv6 = true, false
	config.ClusterIPCIDRs = []string{"10.95.0.0/16"}
	config.IPTablesSyncPeriod = time.Hour
	handler, err := iptables.NewWithProtocol(iptables.ProtocolIPv4)
	if err != nil {
		return err
	}
	sets, err := utils.NewIPSet(false)
	if err != nil {
		return err
	}
	controller, err := netpol.NewNetworkPolicyController(client, config, pods, policies, namespaces, &sync.Mutex{},
		map[core.IPFamily]utils.IPTablesHandler{core.IPv4Protocol: handler},
		map[core.IPFamily]utils.IPSetHandler{core.IPv4Protocol: sets})
	if err != nil {
		return err
	}
	// Each sync begins with a heartbeat. A second one begins when the first has ended.
	beats := make(chan *healthcheck.ControllerHeartbeat)
	var group sync.WaitGroup
	group.Add(1)
	go controller.Run(beats, stop, &group)
	if err := wait(beats); err != nil {
		return err
	}
	controller.RequestFullSync()
	if err := wait(beats); err != nil {
		return err
	}
	close(stop)
	klog.Flush()
	if failed.Len() > 0 {
		return errors.New(string(failed.Next(shown)))
	}
	return nil
}
