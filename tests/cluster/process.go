package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
)

// Process 1 gets every orphan of the cluster to reap, and waits for children of its own beside that. Only one place may
// call wait(2) then: this one.
type processTable struct {
	lock    sync.Mutex
	running map[int]*process
}

type process struct {
	pid    int
	ended  chan struct{} // closed when it is gone
	status syscall.WaitStatus
}

func newProcessTable() *processTable {
	table := &processTable{running: map[int]*process{}}
	deaths := make(chan os.Signal, 1)
	signal.Notify(deaths, syscall.SIGCHLD)
	go func() {
		for range deaths {
			table.reap()
		}
	}()
	return table
}

func (t *processTable) reap() {
	t.lock.Lock()
	defer t.lock.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if pid <= 0 {
			return
		}
		if own := t.running[pid]; own != nil {
			delete(t.running, pid)
			own.status = status
			close(own.ended)
		}
	}
}

// start runs a program. The lock is held over it, so that it cannot be reaped before it is known.
func (t *processTable) start(program string, argv []string, environment []string, dir string, output *os.File) (*process, error) {
	program, err := exec.LookPath(program)
	if err != nil {
		return nil, err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	t.lock.Lock()
	defer t.lock.Unlock()
	pid, err := syscall.ForkExec(program, argv, &syscall.ProcAttr{
		Dir: dir, Env: environment,
		Files: []uintptr{null.Fd(), output.Fd(), output.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", program, err)
	}
	own := &process{pid: pid, ended: make(chan struct{})}
	t.running[pid] = own
	return own, nil
}

// run runs a program to its end.
func (t *processTable) run(argv ...string) error {
	reader, writer, err := os.Pipe()
	if err != nil {
		return err
	}
	defer reader.Close()
	own, err := t.start(argv[0], argv, os.Environ(), "/", writer)
	writer.Close()
	if err != nil {
		return err
	}
	output, _ := io.ReadAll(reader)
	<-own.ended
	if own.status != 0 {
		return fmt.Errorf("%s: %s: %s", strings.Join(argv, " "), own.outcome(), output)
	}
	return nil
}

func (p *process) isGone() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

func (p *process) outcome() string {
	if p.status.Signaled() {
		return p.status.Signal().String()
	}
	return fmt.Sprintf("exit code %d", p.status.ExitStatus())
}
