// A one-node Kubernetes for tests, all of it real, in one binary: README.md says what it is and how it is used.
package main

import (
	"fmt"
	"os"
	"runtime"
)

const usage = `usage: cluster up DIR                            a cluster in DIR, until a signal comes or stdin ends
       cluster component DIR NAME ACTION         a fault in one part: KILL, STOP, CONT, TERM; start runs it again
       cluster sweep                             removes what clusters that were killed have left
       cluster kubectl …                         kubectl of the cluster's version
       cluster etcd|kube-apiserver|kube-controller-manager|kube-scheduler|kubelet|kube-proxy|coredns …`

// The process that is started with PDEATHSIG dies with the thread that started it: the main thread, which never ends.
func init() { runtime.LockOSThread() }

func main() {
	if len(os.Args) < 2 {
		fail(2, usage)
	}
	name, words := os.Args[1], os.Args[2:]
	// The components call themselves by their first word, in their User-Agent too.
	os.Args = os.Args[1:]
	switch {
	case name == "up" && len(words) == 1:
		check(up(words[0]))
	case name == "inside" && len(words) == 0: // what up runs as process 1
		check(inside())
	case name == "component" && len(words) == 3:
		check(askComponent(words[0], words[1], words[2]))
	case name == "sweep" && len(words) == 0:
		check(sweep())
	default:
		if !runKubernetes(name) {
			fail(2, usage)
		}
	}
}

func check(err error) {
	if err != nil {
		fail(1, err)
	}
}

func fail(code int, message any) {
	fmt.Fprintln(os.Stderr, message)
	os.Exit(code)
}
