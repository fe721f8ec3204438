package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Killed processes take a moment to be gone, and nothing tells a stranger when: until then their cgroups are busy.
const goneWithin = 20 * time.Second

// remove takes away what the slot has outside the namespaces. Inside, everything went with process 1.
func (s *slot) remove() error {
	return errors.Join(removeLink(s.veth()), removeCgroups(s.cgroup()), removeFolder(s.Dir))
}

// removeLink does at once what the kernel does some time after the namespace of the other end is gone.
func removeLink(name string) error {
	if _, err := os.Stat("/sys/class/net/" + name); err != nil {
		return nil
	}
	output, err := exec.Command("ip", "link", "del", name).CombinedOutput()
	if _, gone := os.Stat("/sys/class/net/" + name); err != nil && gone == nil {
		return fmt.Errorf("ip link del %s: %s", name, output)
	}
	return nil
}

// hierarchies are the folders that cgroups are made in: of version 1 one per controller, of version 2 the one.
func hierarchies() []string {
	const root = "/sys/fs/cgroup"
	if isUnified() {
		return []string{root}
	}
	var all []string
	entries, _ := os.ReadDir(root)
	for _, entry := range entries {
		// cpu and cpuacct may be links to cpu,cpuacct.
		if dir := filepath.Join(root, entry.Name()); entry.IsDir() && isWritable(filepath.Join(dir, "cgroup.procs")) {
			all = append(all, dir)
		}
	}
	return all
}

func isUnified() bool {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	return err == nil
}

func isWritable(path string) bool {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return false
	}
	file.Close()
	return true
}

// makeCgroups makes the cluster's own root: a kubelet ends whatever it does not know under the root it is given.
func makeCgroups(name string) error {
	for _, hierarchy := range hierarchies() {
		if isUnified() {
			// One at a time: a machine may lack one of them.
			for _, controller := range []string{"cpu", "cpuset", "io", "memory", "pids", "hugetlb"} {
				_ = os.WriteFile(filepath.Join(hierarchy, "cgroup.subtree_control"), []byte("+"+controller), 0)
			}
		}
		if err := os.Mkdir(hierarchy+name, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

func removeCgroups(name string) error {
	return eventually(func() error {
		var all []error
		for _, hierarchy := range hierarchies() {
			var folders []string
			_ = filepath.WalkDir(hierarchy+name, func(path string, entry os.DirEntry, err error) error {
				if err == nil && entry.IsDir() {
					folders = append(folders, path)
				}
				return nil
			})
			for at := len(folders) - 1; at >= 0; at-- { // the deepest first
				if err := syscall.Rmdir(folders[at]); err != nil && !errors.Is(err, syscall.ENOENT) {
					all = append(all, fmt.Errorf("rmdir %s: %w", folders[at], err))
				}
			}
		}
		return errors.Join(all...)
	})
}

// removeFolder refuses to when there is a mount in it: removing would follow it out of the folder.
func removeFolder(dir string) error {
	if dir == "" {
		return nil
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(mounts)) {
		if point := strings.Fields(line)[4]; point == dir || strings.HasPrefix(point, dir+"/") {
			return fmt.Errorf("%s is a mount", point)
		}
	}
	return eventually(func() error { return os.RemoveAll(dir) })
}

func eventually(try func() error) error {
	for end := time.Now().Add(goneWithin); ; time.Sleep(10 * time.Millisecond) {
		if err := try(); err == nil || time.Now().After(end) {
			return err
		}
	}
}
