// The process that holds a pod's namespaces. A program of its own, because every pod has one: it takes 1 MiB where the
// binary with all of Kubernetes in it would take 80.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	// Process 1 of pods that share their process namespace: orphans are the kernel's to reap.
	signal.Ignore(syscall.SIGCHLD)
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGINT, syscall.SIGTERM)
	<-end
}
