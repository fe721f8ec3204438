package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

// plan is what process 1 has to know, told by `up` through its standard input.
type plan struct {
	Dir, Cgroup, Outside, Inside string
}

// up is a cluster's whole life. It stands outside: it makes what is outside the namespaces, starts process 1 in them,
// and ends it by killing it, since nothing of a test cluster is worth an orderly end. All inside goes with process 1;
// process 1 goes with `up`, even when that is killed; and what is left then, a sweep finds.
func up(dir string) error {
	// Before anything is made: a signal that comes while it is being made must not leave half of it.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	if err := sweep(); err != nil {
		fmt.Fprintln(os.Stderr, err) // a dead cluster's trouble is not this one's
	}
	dir, err := usableFolder(dir)
	if err != nil {
		return err
	}
	own, err := reserve(dir)
	if err != nil {
		return err
	}
	err = own.live(signals)
	if err2 := own.remove(); err2 != nil {
		own.file.Close() // stays for a sweep
		return errors.Join(err, err2)
	}
	own.release()
	return err
}

// usableFolder makes the folder absolute and refuses those in which a cluster could not live.
func usableFolder(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return "", err
	}
	for _, hidden := range hiddenFolders {
		if strings.HasPrefix(dir+"/", hidden+"/") {
			return "", fmt.Errorf("%s: the cluster sees a %s of its own; choose another folder", dir, hidden)
		}
	}
	// A socket's path has at most 107 bytes, and containerd adds to it.
	if strings.ContainsAny(dir, " \t\n") || len(dir) > 80 {
		return "", fmt.Errorf("%s: at most 80 bytes, for the sockets in it, and no spaces", dir)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		return "", errors.Join(err, fmt.Errorf("%s is not empty, and would be removed at the end", dir))
	}
	return dir, nil
}

// live runs process 1 until a signal comes, standard input ends, or it ends by itself, which is an error.
func (s *slot) live(signals <-chan os.Signal) error {
	if err := makeCgroups(s.cgroup()); err != nil {
		return err
	}
	if err := writePauseImage(filepath.Join(s.Dir, "pause.tar")); err != nil {
		return err
	}
	child := exec.Command("/proc/self/exe", "inside")
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	child.ExtraFiles = []*os.File{s.file} // locked until it is gone too
	child.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
		Setsid:     true, // a terminal's Ctrl-C is for `up`
	}
	words, err := child.StdinPipe()
	if err != nil {
		return err
	}
	if err := child.Start(); err != nil {
		return fmt.Errorf("process 1 cannot be started: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()
	stop := func() {
		_ = child.Process.Kill()
		<-ended // the kernel lets go of process 1 when no process of its namespace is left
	}
	err = errors.Join(
		outside("ip", "link", "add", s.veth(), "type", "veth", "peer", "name", "eth0", "netns", fmt.Sprint(child.Process.Pid)),
		outside("ip", "addr", "add", s.outside()+"/30", "dev", s.veth()),
		outside("ip", "link", "set", s.veth(), "up"),
		json.NewEncoder(words).Encode(plan{Dir: s.Dir, Cgroup: s.cgroup(), Outside: s.outside(), Inside: s.inside()}),
	)
	if err != nil {
		stop()
		return err
	}
	closed := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(closed)
	}()
	select {
	case err := <-ended:
		return fmt.Errorf("the cluster has ended: %w", err)
	case <-signals:
	case <-closed:
	}
	stop()
	return nil
}

func outside(name string, words ...string) error {
	if output, err := exec.Command(name, words...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(words, " "), err, output)
	}
	return nil
}
