package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// cluster is one cluster as process 1 has it.
type cluster struct {
	plan
	table *processTable
	began time.Time
	lock  sync.Mutex
	parts map[string]*part
}

// part is a component: how it is started, and its process.
type part struct {
	name    string
	program string
	argv    []string
	process *process
}

func (c *cluster) path(name ...string) string {
	return filepath.Join(append([]string{c.Dir}, name...)...)
}

func (c *cluster) server() string { return "https://" + c.Inside + ":" + apiPort }

// run starts the parts in the order in which they need each other, as early as each can be.
func (c *cluster) run() error {
	if err := c.writeFiles(); err != nil {
		return err
	}
	if err := c.serveRegistries(); err != nil {
		return err
	}
	if err := c.start("etcd", "apiserver", "containerd"); err != nil {
		return err
	}
	imported := make(chan error, 1)
	go func() { imported <- c.importPauseImage() }()
	probe, err := c.newProbe()
	if err != nil {
		return err
	}
	if err := c.wait(condition{"the API server is ready", probe.apiServer}); err != nil {
		return err
	}
	if err := c.start("controllers", "scheduler", "proxy", "dns"); err != nil {
		return err
	}
	if err := <-imported; err != nil {
		return err
	}
	if err := c.start("kubelet"); err != nil {
		return err
	}
	if err := c.wait(probe.all()...); err != nil {
		return err
	}
	if err := c.serveControl(); err != nil {
		return err
	}
	err = json.NewEncoder(os.Stdout).Encode(map[string]any{
		"dir": c.Dir, "kubeconfig": c.path("admin.kubeconfig"), "server": c.server(), "hostAddress": c.Outside, "address": c.Inside,
		"ca": c.path("pki", "ca.crt"), "caKey": c.path("pki", "ca.key"), "staticToken": staticToken, "auditLog": c.path("audit.log"),
		"control": c.path("control.sock"), "registries": c.path("registries"), "node": nodeName, "cgroup": c.Cgroup,
	})
	if err != nil {
		return err
	}
	select {}
}

func (c *cluster) importPauseImage() error {
	address := c.path("containerd.sock")
	if err := c.wait(condition{"containerd answers", func() error { return c.table.run("ctr", "-a", address, "version") }}); err != nil {
		return err
	}
	return c.table.run("ctr", "-a", address, "-n", "k8s.io", "images", "import", c.path("pause.tar"))
}

// start starts parts, with the flags that they always have.
func (c *cluster) start(names ...string) error {
	c.lock.Lock()
	defer c.lock.Unlock()
	for _, name := range names {
		own := c.parts[name]
		if own.process != nil && !own.process.isGone() {
			return fmt.Errorf("%s runs already", name)
		}
		log, err := os.OpenFile(c.path("log", name+".log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
		if err != nil {
			return err
		}
		own.process, err = c.table.start(own.program, own.argv, c.environment(), c.Dir, log)
		log.Close()
		if err != nil {
			return fmt.Errorf("%s cannot be started: %w", name, err)
		}
	}
	return nil
}

// signal sends a part a signal. One that ends it has ended it when this returns.
func (c *cluster) signal(name string, signal syscall.Signal) error {
	c.lock.Lock()
	defer c.lock.Unlock()
	own := c.parts[name].process
	if own.isGone() {
		return fmt.Errorf("%s does not run: %s", name, own.outcome())
	}
	if err := syscall.Kill(own.pid, signal); err != nil {
		return err
	}
	if signal != syscall.SIGKILL && signal != syscall.SIGTERM {
		return nil
	}
	select {
	case <-own.ended:
		return nil
	case <-time.After(time.Minute):
		return fmt.Errorf("%s goes on a minute after its %s", name, signal)
	}
}

// environment is what parts get of this process's: where programs are, and nothing that could change what they do.
func (c *cluster) environment() []string {
	return []string{"PATH=" + os.Getenv("PATH") + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + c.Dir, "TMPDIR=" + c.path("tmp")}
}

// failed is the first part that has ended and should not have, with the last it has said.
func (c *cluster) failed() error {
	c.lock.Lock()
	defer c.lock.Unlock()
	for name, own := range c.parts {
		if own.process != nil && own.process.isGone() {
			return fmt.Errorf("%s has ended (%s); the last lines of its log:\n%s", name, own.process.outcome(), c.lastLines(name))
		}
	}
	return nil
}

func (c *cluster) lastLines(name string) []byte {
	text, _ := os.ReadFile(c.path("log", name+".log"))
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-20):], []byte("\n"))
}
