package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
)

// containerd asks here for every image, and names the registry that it means in `?ns=`. So tests may run registries on
// any port of the outside's address, over plain HTTP, and put one in the place of a real one: a file HOST.json in the
// folder `registries`, {"url": "http://198.18.0.1:5000", "ca"?: "FILE"}, read at each request.
const registriesAddress = "127.0.0.1:65000"

type standIn struct{ URL, CA string }

func (c *cluster) serveRegistries() error {
	listener, err := net.Listen("tcp", registriesAddress)
	if err != nil {
		return err
	}
	go func() { _ = http.Serve(listener, http.HandlerFunc(c.askRegistry)) }()
	return nil
}

func (c *cluster) askRegistry(response http.ResponseWriter, request *http.Request) {
	host := request.URL.Query().Get("ns")
	target, transport, err := c.findRegistry(host)
	if err != nil {
		http.Error(response, err.Error(), http.StatusBadGateway)
		return
	}
	proxy := httputil.ReverseProxy{
		Transport:     transport,
		FlushInterval: -1,
		Rewrite: func(out *httputil.ProxyRequest) {
			out.SetURL(target)
			query := out.Out.URL.Query()
			query.Del("ns")
			out.Out.URL.RawQuery = query.Encode()
		},
		ErrorHandler: func(response http.ResponseWriter, _ *http.Request, err error) {
			http.Error(response, fmt.Sprintf("%s: %v", host, err), http.StatusBadGateway)
		},
	}
	proxy.ServeHTTP(response, request)
}

func (c *cluster) findRegistry(host string) (*url.URL, http.RoundTripper, error) {
	found := standIn{URL: "http://" + host}
	text, err := os.ReadFile(c.path("registries", strings.ReplaceAll(host, "/", "_")+".json"))
	if err == nil {
		err = json.Unmarshal(text, &found)
	} else if name, _, split := net.SplitHostPort(host); split != nil || net.ParseIP(name) == nil {
		err = fmt.Errorf("%s cannot be reached from a test cluster, and nothing stands in for it", host)
	} else {
		err = nil
	}
	if err != nil {
		return nil, nil, err
	}
	target, err := url.Parse(found.URL)
	if err != nil {
		return nil, nil, err
	}
	// Of its own, and for this one request: a registry that a test has ended must not be remembered.
	transport := &http.Transport{DisableKeepAlives: true}
	if found.CA != "" {
		pem, err := os.ReadFile(found.CA)
		if err != nil {
			return nil, nil, err
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pem)
		transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	}
	return target, transport, nil
}
