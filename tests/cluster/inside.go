package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// What a cluster's programs write to and cannot be told to put elsewhere: sockets of shims, names of network namespaces,
// CNI's cache, links to logs. In the namespace these are empty and its own.
var hiddenFolders = []string{"/run", "/var/run", "/var/lib", "/var/log"}

const (
	podNetwork = "10.244.0.0/16"
	// The bridge's own address: the node as pods see it, and their name server.
	bridgeAddress  = "10.244.0.1"
	serviceNetwork = "10.96.0.0/16"
	serviceAddress = "10.96.0.1" // of the API server, the first of the network
	nodeName       = "node"
	apiPort        = "6443"
)

// inside is process 1 of a cluster: it makes the place, starts everything in it, says when it can be used, takes orders
// for faults, and reaps orphans. It ends when `up` does.
func inside() error {
	syscall.CloseOnExec(3) // the slot's lock: held by this process, and by nothing it starts
	var told plan
	words := json.NewDecoder(os.Stdin)
	if err := words.Decode(&told); err != nil {
		return fmt.Errorf("nothing was told: %w", err)
	}
	go func() {
		// PDEATHSIG has done this already, unless `up` is one that lost it.
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	c := &cluster{plan: told, began: time.Now(), table: newProcessTable(), parts: map[string]*part{}}
	if err := errors.Join(c.makeFolders(), c.makeMounts(), c.makeNetwork()); err != nil {
		return err
	}
	return c.run()
}

func (c *cluster) makeFolders() error {
	var all []error
	for _, name := range []string{"log", "tmp", "registries", "cni", "opt", "plugins", "pod-logs"} {
		all = append(all, os.MkdirAll(c.path(name), 0o755))
	}
	// Names outside the cluster are answered at once with "no such name", rather than by a name server out of reach.
	all = append(all, os.WriteFile(c.path("resolv.conf"), []byte("nameserver "+bridgeAddress+"\n"), 0o644))
	return errors.Join(all...)
}

func (c *cluster) makeMounts() error {
	// Not private: what the machine unmounts is to go from here too, and nothing of here goes out.
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("making mounts this cluster's own: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	for _, dir := range hiddenFolders {
		if real, err := filepath.EvalSymlinks(dir); err != nil || real != dir {
			continue // not there, or another one's other name
		}
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
			return fmt.Errorf("mounting %s: %w", dir, err)
		}
	}
	if err := os.MkdirAll("/run/netns", 0o755); err != nil {
		return err
	}
	if real, err := filepath.EvalSymlinks("/etc/resolv.conf"); err == nil {
		if err := syscall.Mount(c.path("resolv.conf"), real, "", syscall.MS_BIND, ""); err != nil {
			return fmt.Errorf("mounting %s: %w", real, err)
		}
	}
	return nil
}

func (c *cluster) makeNetwork() error {
	// Packets of pods leave as the node's own: the machine outside knows no way to pods. There is no default route, so
	// that what is elsewhere is unreachable at once; the node's own packets to Services need some route to be translated.
	rules := fmt.Sprintf("table ip cluster { chain leaving { type nat hook postrouting priority srcnat; ip saddr %s ip daddr != %s masquerade; }; }", podNetwork, podNetwork)
	for _, command := range [][]string{
		{"ip", "link", "set", "lo", "up"},
		{"ip", "addr", "add", c.Inside + "/30", "dev", "eth0"},
		{"ip", "link", "set", "eth0", "up"},
		{"ip", "link", "add", "pods", "type", "bridge"},
		{"ip", "addr", "add", bridgeAddress + "/16", "dev", "pods"},
		{"ip", "link", "set", "pods", "up"},
		{"ip", "route", "add", serviceNetwork, "dev", "pods"},
		{"nft", rules},
	} {
		if err := c.table.run(command...); err != nil {
			return err
		}
	}
	return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0)
}
