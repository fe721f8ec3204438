package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

type object = map[string]any

// writeFiles writes everything that the parts read: keys, kubeconfigs and configurations. JSON stands for YAML.
func (c *cluster) writeFiles() error {
	c.declareParts()
	return errors.Join(c.writeIdentities(), c.writeControlPlane(), c.writeContainerd(), c.writeCNI(), c.writeKubelet(), c.writeProxy(), c.writeDNS())
}

func (c *cluster) writeIdentities() error {
	a, err := newAuthority(c.path("pki"))
	if err != nil {
		return err
	}
	all := []error{
		a.issue("apiserver", "kube-apiserver", "", []string{c.Inside, "127.0.0.1", serviceAddress},
			"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"),
	}
	// Users of their own, so that the audit log tells them apart.
	for _, one := range []struct{ name, user, group string }{
		{"admin", "admin", "system:masters"},
		{"controllers", "system:kube-controller-manager", ""},
		{"scheduler", "system:kube-scheduler", ""},
		{"kubelet", "system:node:" + nodeName, "system:nodes"},
		{"proxy", "system:kube-proxy", ""},
		{"dns", "coredns", "system:masters"}, // no built-in role is for it
	} {
		all = append(all, a.issue(one.name, one.user, one.group, []string{c.Inside, "127.0.0.1"}, nodeName),
			a.kubeconfig(c.path(one.name+".kubeconfig"), c.server(), one.name))
	}
	return errors.Join(all...)
}

func (c *cluster) writeControlPlane() error {
	return errors.Join(
		os.WriteFile(c.path("tokens.csv"), []byte(staticToken+`,static-user,static-user,"static"`+"\n"), 0o600),
		// One line per request once it is answered, without bodies; watches have one more when they begin.
		writeJSON(c.path("audit-policy.json"), object{
			"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": []string{"RequestReceived"}, "rules": []object{{"level": "Metadata"}},
		}),
	)
}

func (c *cluster) writeContainerd() error {
	plugins := "/usr/lib/cni"
	if _, err := os.Stat(plugins); err != nil {
		plugins = "/opt/cni/bin"
	}
	// restrict_oom_score_adj: without CAP_SYS_RESOURCE runc fails with "can't get final child's PID from pipe: EOF".
	// Every registry is asked by way of registries.go, because containerd speaks plain HTTP with loopback only.
	// Its file must have a table [host], be it empty: containerd 1.6 ignores the file otherwise.
	return errors.Join(os.WriteFile(c.path("containerd.toml"), fmt.Appendf(nil, `version = 2
root = %q
state = %q
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs"]
[grpc]
  address = %q
[plugins."io.containerd.internal.v1.opt"]
  path = %q
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %q
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = %q
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = %q
    conf_dir = %q
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = %q
`, c.path("containerd"), c.path("containerd-state"), c.path("containerd.sock"), c.path("opt"), pauseImage, c.snapshotter(),
		plugins, c.path("cni"), c.path("certs.d")), 0o644),
		os.MkdirAll(c.path("certs.d", "_default"), 0o755),
		os.WriteFile(c.path("certs.d", "_default", "hosts.toml"), fmt.Appendf(nil, "server = %q\n[host]\n", "http://"+registriesAddress), 0o644))
}

// snapshotter is overlayfs, unless the folder is on one: then layers are copied.
func (c *cluster) snapshotter() string {
	probe := c.path("tmp", "overlay")
	options := ""
	for _, name := range []string{"lowerdir", "upperdir", "workdir"} {
		_ = os.MkdirAll(filepath.Join(probe, name), 0o755)
		options += "," + name + "=" + filepath.Join(probe, name)
	}
	if err := syscall.Mount("overlay", filepath.Join(probe, "lowerdir"), "overlay", 0, options[1:]); err != nil {
		return "native"
	}
	_ = syscall.Unmount(filepath.Join(probe, "lowerdir"), 0)
	return "overlayfs"
}

func (c *cluster) writeCNI() error {
	// The network leaves through one rule that is made once (inside.go), rather than by one that every pod adds and removes.
	return writeJSON(c.path("cni", "10-pods.conflist"), object{
		"cniVersion": "0.4.0", "name": "pods",
		"plugins": []object{{
			"type": "bridge", "bridge": "pods", "isGateway": true, "ipMasq": false, "hairpinMode": true,
			"ipam": object{
				"type": "host-local", "dataDir": c.path("ipam"), "routes": []object{{"dst": "0.0.0.0/0"}},
				"ranges": [][]object{{{"subnet": podNetwork, "gateway": bridgeAddress}}},
			},
		}},
	})
}

func (c *cluster) writeKubelet() error {
	return writeJSON(c.path("kubelet.json"), object{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
		"address": "0.0.0.0", "tlsCertFile": c.path("pki", "kubelet.crt"), "tlsPrivateKeyFile": c.path("pki", "kubelet.key"),
		"authentication":           object{"anonymous": object{"enabled": false}, "webhook": object{"enabled": true}, "x509": object{"clientCAFile": c.path("pki", "ca.crt")}},
		"authorization":            object{"mode": "Webhook"},
		"containerRuntimeEndpoint": "unix://" + c.path("containerd.sock"),
		"podLogsDir":               c.path("pod-logs"), "volumePluginDir": c.path("plugins"),
		"clusterDNS": []string{bridgeAddress}, "clusterDomain": "cluster.local", "resolvConf": c.path("resolv.conf"),
		// Version 1 of cgroups is still what some kernels have. Nothing is reserved for the node, and its programs are not in the cgroups.
		"cgroupDriver": "cgroupfs", "cgroupRoot": c.Cgroup, "failCgroupV1": false, "enforceNodeAllocatable": []string{},
		"failSwapOn": false, "oomScoreAdj": 0,
		"nodeLeaseDurationSeconds": 8, // renewed every 2 s; see the controllers' grace period
		// A developer's disk may be nearly full; what a test pulls is removed with the cluster.
		"evictionHard":                object{"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
		"imageGCHighThresholdPercent": 100, "imageGCLowThresholdPercent": 99,
		"maxPods": 250, "registryPullQPS": 0, "serializeImagePulls": false, "eventRecordQPS": 0, "kubeAPIQPS": 500, "kubeAPIBurst": 1000,
		"makeIPTablesUtilChains": false, // Services are nftables' alone, and iptables need not be there
	})
}

func (c *cluster) writeProxy() error {
	return writeJSON(c.path("proxy.json"), object{
		"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
		"mode": "nftables", "bindAddress": "127.0.0.1", "hostnameOverride": nodeName, "clusterCIDR": podNetwork,
		"healthzBindAddress": proxyHealth, "metricsBindAddress": "127.0.0.1:10249",
		"clientConnection": object{"kubeconfig": c.path("proxy.kubeconfig")},
		"conntrack":        object{"maxPerCore": 0, "min": 0},
		// Between two pods of one bridge an answer would not come back through the translation otherwise.
		"nftables": object{"masqueradeAll": true, "minSyncPeriod": "100ms"},
	})
}

func (c *cluster) writeDNS() error {
	return os.WriteFile(c.path("Corefile"), fmt.Appendf(nil, `cluster.local in-addr.arpa {
  bind %[1]s
  errors
  kubernetes cluster.local in-addr.arpa {
    kubeconfig %[2]s test
  }
}
. {
  bind %[1]s
  template ANY ANY {
    rcode NXDOMAIN
  }
}
`, bridgeAddress, c.path("dns.kubeconfig")), 0o644)
}
