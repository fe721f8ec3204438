package main

import "strings"

// A second user, for tests of what happens to a token: static-user of the group static, who may do nothing until a test
// binds a role to it.
const staticToken = "alien-test-static-token"

// declareParts says how each part is started. Flags that are not about addresses and files are here for a reason: tests
// are to be quick (no fsync, no leader election, no limits on clients' requests, a silent node found out in 10 s instead of 50), and what they need to see is recorded.
func (c *cluster) declareParts() {
	pki := func(name string) string { return c.path("pki", name) }
	config := func(name string) string { return c.path(name + ".kubeconfig") }
	const etcd = "http://127.0.0.1:2379"
	c.own("etcd", "etcd", `
		--data-dir `+c.path("etcd")+` --unsafe-no-fsync --log-level warn
		--listen-client-urls `+etcd+` --advertise-client-urls `+etcd+`
		--listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380
		--initial-cluster default=http://127.0.0.1:2380`)
	// The advertised address is what 10.96.0.1 leads to. NodeRestriction is the one plug-in that is wanted and not on by itself.
	c.own("apiserver", "kube-apiserver", `
		--etcd-servers `+etcd+` --bind-address 0.0.0.0 --advertise-address `+c.Inside+` --secure-port `+apiPort+`
		--service-cluster-ip-range `+serviceNetwork+` --cert-dir `+c.path("pki")+`
		--tls-cert-file `+pki("apiserver.crt")+` --tls-private-key-file `+pki("apiserver.key")+` --client-ca-file `+pki("ca.crt")+`
		--service-account-key-file `+pki("sa.key")+` --service-account-signing-key-file `+pki("sa.key")+`
		--service-account-issuer https://kubernetes.default.svc --token-auth-file `+c.path("tokens.csv")+`
		--authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction --allow-privileged=true
		--kubelet-preferred-address-types InternalIP --kubelet-certificate-authority `+pki("ca.crt")+`
		--kubelet-client-certificate `+pki("admin.crt")+` --kubelet-client-key `+pki("admin.key")+`
		--audit-policy-file `+c.path("audit-policy.json")+` --audit-log-path `+c.path("audit.log")+` --audit-log-maxsize 100000
		--profiling=false`)
	c.own("controllers", "kube-controller-manager", `
		--kubeconfig `+config("controllers")+` --leader-elect=false --bind-address 127.0.0.1 --use-service-account-credentials
		--service-account-private-key-file `+pki("sa.key")+` --root-ca-file `+pki("ca.crt")+`
		--cluster-signing-cert-file `+pki("ca.crt")+` --cluster-signing-key-file `+pki("ca.key")+`
		--flex-volume-plugin-dir `+c.path("plugins")+` --kube-api-qps 500 --kube-api-burst 1000 --profiling=false
		--node-monitor-period 1s --node-monitor-grace-period 10s`)
	c.own("scheduler", "kube-scheduler", `
		--kubeconfig `+config("scheduler")+` --leader-elect=false --bind-address 127.0.0.1
		--kube-api-qps 500 --kube-api-burst 1000 --profiling=false`)
	c.own("kubelet", "kubelet", `
		--config `+c.path("kubelet.json")+` --kubeconfig `+config("kubelet")+` --hostname-override `+nodeName+`
		--node-ip `+c.Inside+` --root-dir `+c.path("kubelet")+` --cert-dir `+c.path("pki"))
	c.own("proxy", "kube-proxy", "--config "+c.path("proxy.json"))
	c.own("dns", "coredns", "-conf "+c.path("Corefile"))
	c.declare("containerd", "containerd", "containerd --config "+c.path("containerd.toml"))
}

// own declares a part that is in this binary, which may be in a folder that is hidden here.
func (c *cluster) own(name, command, flags string) {
	c.declare(name, "/proc/self/exe", "alien-test-cluster "+command+" "+flags)
}

// No argument has a space in it: folders with one are refused.
func (c *cluster) declare(name, program, words string) {
	c.parts[name] = &part{name: name, program: program, argv: strings.Fields(words)}
}
