package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// A slot is what a cluster has outside its namespaces, by number, so that no two have the same: a subnet, the outside's
// end of the veth pair, cgroups, and the folder. Its file is locked for as long as the cluster lives, by `up` and by
// process 1, and a file that can be locked therefore belongs to a cluster that is dead, whatever killed it.
type slot struct {
	Number int
	Dir    string
	file   *os.File
}

const (
	slotsDir  = "/run/alien-test-cluster"
	slotCount = 256
)

// The range for benchmarks of network devices (RFC 2544): neither a company's network nor a container engine uses it.
func (s *slot) subnet() string  { return fmt.Sprintf("198.18.%d.0/30", s.Number) }
func (s *slot) outside() string { return fmt.Sprintf("198.18.%d.1", s.Number) }
func (s *slot) inside() string  { return fmt.Sprintf("198.18.%d.2", s.Number) }
func (s *slot) veth() string    { return fmt.Sprintf("alien-test-%d", s.Number) }
func (s *slot) cgroup() string  { return fmt.Sprintf("/alien-test-cluster-%d", s.Number) }
func (s *slot) path() string    { return filepath.Join(slotsDir, strconv.Itoa(s.Number)) }

// reserve takes the first free slot for the folder. What a dead cluster left in it goes first.
func reserve(dir string) (*slot, error) {
	for number := range slotCount {
		s := &slot{Number: number, Dir: dir}
		if s.isUsedElsewhere() {
			continue
		}
		taken, left, err := s.lock()
		if err != nil {
			return nil, err
		}
		if !taken {
			continue
		}
		if left != "" {
			dead := &slot{Number: number, Dir: left}
			if err := dead.remove(); err != nil {
				return nil, fmt.Errorf("what a dead cluster left in %s cannot be removed: %w", left, err)
			}
		}
		if err := s.describe(); err != nil {
			return nil, err
		}
		return s, nil
	}
	return nil, fmt.Errorf("all %d slots in %s are taken", slotCount, slotsDir)
}

// isUsedElsewhere says whether somebody else on this machine has addresses of this slot's subnet.
func (s *slot) isUsedElsewhere() bool {
	_, subnet, _ := net.ParseCIDR(s.subnet())
	interfaces, _ := net.Interfaces()
	for _, one := range interfaces {
		addresses, _ := one.Addrs()
		for _, address := range addresses {
			if network, ok := address.(*net.IPNet); ok && one.Name != s.veth() && (subnet.Contains(network.IP) || network.Contains(subnet.IP)) {
				return true
			}
		}
	}
	return false
}

// lock takes the slot's file; also says which folder its last owner has not cleared away.
func (s *slot) lock() (taken bool, left string, err error) {
	for {
		if err := os.MkdirAll(slotsDir, 0o755); err != nil {
			return false, "", err
		}
		file, err := os.OpenFile(s.path(), os.O_RDWR|os.O_CREATE, 0o600)
		if errors.Is(err, os.ErrNotExist) {
			continue // the last cluster's end has just removed the folder
		}
		if err != nil {
			return false, "", err
		}
		if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			file.Close()
			if errors.Is(err, syscall.EWOULDBLOCK) {
				return false, "", nil
			}
			return false, "", err
		}
		// Between open and lock its owner may have ended and removed it: a lock on a file without a name is nobody's.
		ours, err := file.Stat()
		named, err2 := os.Stat(s.path())
		if err != nil || err2 != nil || !os.SameFile(ours, named) {
			file.Close()
			continue
		}
		s.file = file
		text, err := io.ReadAll(file)
		if err != nil {
			return false, "", err
		}
		var last slot
		if json.Unmarshal(text, &last) == nil {
			left = last.Dir
		}
		return true, left, nil
	}
}

// describe writes down what a later sweep has to know.
func (s *slot) describe() error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := s.file.Truncate(0); err != nil {
		return err
	}
	_, err = s.file.WriteAt(text, 0)
	return err
}

// release gives the slot back; everything in it is gone already.
func (s *slot) release() {
	os.Remove(s.path())
	os.Remove(slotsDir) // the last one; fails as long as there are others
	s.file.Close()
}

// sweep removes what clusters left that were killed before they could do it themselves.
func sweep() error {
	entries, err := os.ReadDir(slotsDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var all []error
	for _, entry := range entries {
		number, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		s := &slot{Number: number}
		taken, left, err := s.lock()
		if err != nil {
			all = append(all, err)
		}
		if !taken {
			continue
		}
		s.Dir = left
		if err := s.remove(); err != nil {
			all = append(all, fmt.Errorf("what a dead cluster left in %s cannot be removed: %w", left, err))
			s.file.Close()
			continue
		}
		s.release()
	}
	return errors.Join(append(all, err)...)
}
