package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

const (
	proxyHealth = "127.0.0.1:10256"
	// On two busy cores; a usual start takes a tenth of it.
	startsWithin = 2 * time.Minute
)

// condition is something that must be so before a test can use the cluster. A Ready node is not enough: for seconds
// after that, no namespace has its account, and pods are refused.
type condition struct {
	is  string
	try func() error
}

// probe asks the API server as the administrator.
type probe struct {
	client *http.Client
	server string
}

func (c *cluster) newProbe() (*probe, error) {
	certificate, err := tls.LoadX509KeyPair(c.path("pki", "admin.crt"), c.path("pki", "admin.key"))
	if err != nil {
		return nil, err
	}
	authority, err := os.ReadFile(c.path("pki", "ca.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{certificate}},
		// A packet to a Service that is not there yet is dropped, and the kernel would send the next one a second later.
		DialContext: (&net.Dialer{Timeout: 100 * time.Millisecond}).DialContext,
	}
	return &probe{&http.Client{Transport: transport, Timeout: 10 * time.Second}, c.server()}, nil
}

func (p *probe) get(url string, into any) error {
	response, err := p.client.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(response.Body).Decode(into)
}

func (p *probe) exists(is, path string) condition {
	return condition{is, func() error { return p.get(p.server+path, nil) }}
}

func (p *probe) all() []condition {
	return []condition{
		p.exists("the default service account is there", "/api/v1/namespaces/default/serviceaccounts/default"),
		p.exists("kube-root-ca.crt is there", "/api/v1/namespaces/default/configmaps/kube-root-ca.crt"),
		{"the node is ready", p.node},
		{"kube-proxy is healthy", func() error { return p.get("http://"+proxyHealth+"/healthz", nil) }},
		{"the API server's Service leads to it", func() error { return p.get("https://"+serviceAddress+"/readyz", nil) }},
		{"names resolve", resolves},
	}
}

// node also wants the taint gone that keeps pods off a node that was not ready.
func (p *probe) node() error {
	var found struct {
		Spec   struct{ Taints []any }
		Status struct {
			Conditions []struct{ Type, Status, Message string }
		}
	}
	if err := p.get(p.server+"/api/v1/nodes/"+nodeName, &found); err != nil {
		return err
	}
	for _, one := range found.Status.Conditions {
		if one.Type == "Ready" && one.Status == "True" && len(found.Spec.Taints) == 0 {
			return nil
		}
	}
	return fmt.Errorf("%+v", found)
}

func resolves() error {
	resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, bridgeAddress+":53")
	}}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, err := resolver.LookupHost(ctx, "kubernetes.default.svc.cluster.local.")
	return err
}

// apiServer is the first that everything else waits for.
func (p *probe) apiServer() error { return p.get(p.server+"/readyz", nil) }

// note writes down when what was so: where the seconds of a start go.
func (c *cluster) note(what string) {
	log, err := os.OpenFile(c.path("log", "start.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err == nil {
		fmt.Fprintf(log, "%5d ms  %s\n", time.Since(c.began).Milliseconds(), what)
		log.Close()
	}
}

// wait asks until all conditions hold; it gives up when a part ends, or at the deadline.
func (c *cluster) wait(conditions ...condition) error {
	end := time.Now().Add(startsWithin)
	for _, one := range conditions {
		for {
			err := one.try()
			if err == nil {
				c.note(one.is)
				break
			}
			// A part that ended is the reason, whatever the condition says.
			if failed := c.failed(); failed != nil {
				return failed
			}
			if time.Now().After(end) {
				return fmt.Errorf("not so within %v: %s: %w", startsWithin, one.is, err)
			}
			time.Sleep(20 * time.Millisecond) // nobody tells
		}
	}
	return nil
}
