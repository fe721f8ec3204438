package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"syscall"
)

// Orders from outside: one line of JSON over DIR/control.sock, and one back. A socket's file is reached from other
// network namespaces too.
type order struct {
	Component string `json:"component"`
	Action    string `json:"action"`
}

type answer struct {
	Error string `json:"error,omitempty"`
}

var actions = map[string]syscall.Signal{"KILL": syscall.SIGKILL, "STOP": syscall.SIGSTOP, "CONT": syscall.SIGCONT, "TERM": syscall.SIGTERM}

func (c *cluster) serveControl() error {
	listener, err := net.Listen("unix", c.path("control.sock"))
	if err != nil {
		return err
	}
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go c.obey(connection)
		}
	}()
	return nil
}

func (c *cluster) obey(connection net.Conn) {
	defer connection.Close()
	var told order
	var said answer
	err := json.NewDecoder(connection).Decode(&told)
	if err == nil {
		err = c.perform(told)
	}
	if err != nil {
		said.Error = err.Error()
	}
	_ = json.NewEncoder(connection).Encode(said)
}

func (c *cluster) perform(told order) error {
	if c.parts[told.Component] == nil {
		return fmt.Errorf("there is no component %q; there are %s", told.Component, strings.Join(slices.Sorted(maps.Keys(c.parts)), ", "))
	}
	if told.Action == "start" {
		return c.start(told.Component)
	}
	signal, known := actions[told.Action]
	if !known {
		return fmt.Errorf("there is no action %q; there are %s, start", told.Action, strings.Join(slices.Sorted(maps.Keys(actions)), ", "))
	}
	return c.signal(told.Component, signal)
}

// askComponent is the other side, for a shell.
func askComponent(dir, component, action string) error {
	connection, err := net.Dial("unix", dir+"/control.sock")
	if err != nil {
		return fmt.Errorf("there is no cluster in %s: %w", dir, err)
	}
	defer connection.Close()
	var said answer
	if err := errors.Join(json.NewEncoder(connection).Encode(order{component, action}), json.NewDecoder(connection).Decode(&said)); err != nil {
		return err
	}
	if said.Error != "" {
		return errors.New(said.Error)
	}
	return nil
}
