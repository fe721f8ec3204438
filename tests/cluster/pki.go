package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// authority is the cluster's certificate authority. Its key stays in the folder, for tests that make users of their own.
type authority struct {
	dir         string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// newAuthority makes one in the folder: ca.crt and ca.key, and sa.key, which signs the tokens of service accounts.
func newAuthority(dir string) (*authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	template := certificateFor(pkix.Name{CommonName: "alien-test-ca"})
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature
	a := &authority{dir: dir}
	var err error
	if a.key, err = newKey(filepath.Join(dir, "ca.key")); err != nil {
		return nil, err
	}
	a.certificate = template
	if err = a.sign("ca", template, &a.key.PublicKey); err != nil {
		return nil, err
	}
	_, err = newKey(filepath.Join(dir, "sa.key"))
	return a, err
}

func certificateFor(subject pkix.Name) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	return &x509.Certificate{
		SerialNumber: serial, Subject: subject,
		// From before now: a test may turn the clock back.
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(30 * 24 * time.Hour),
	}
}

func newKey(file string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600)
}

func (a *authority) sign(name string, template *x509.Certificate, public any) error {
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, public, a.key)
	if err != nil {
		return err
	}
	if template.IsCA {
		if a.certificate, err = x509.ParseCertificate(der); err != nil {
			return err
		}
	}
	return os.WriteFile(a.file(name+".crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}

// issue makes NAME.crt and NAME.key, for a client and, where it has addresses or names, for a server.
func (a *authority) issue(name, user, group string, addresses []string, names ...string) error {
	subject := pkix.Name{CommonName: user}
	if group != "" {
		subject.Organization = []string{group}
	}
	template := certificateFor(subject)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	template.DNSNames = names
	for _, address := range addresses {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(address))
	}
	key, err := newKey(a.file(name + ".key"))
	if err != nil {
		return err
	}
	return a.sign(name, template, &key.PublicKey)
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// kubeconfig writes a file with everything in it, so that it can be copied anywhere. JSON is YAML too.
func (a *authority) kubeconfig(file, server, name string) error {
	var contents [3][]byte
	for at, one := range []string{"ca.crt", name + ".crt", name + ".key"} {
		text, err := os.ReadFile(a.file(one))
		if err != nil {
			return err
		}
		contents[at] = text // []byte becomes base64, which is what these fields want
	}
	return writeJSON(file, object{
		"apiVersion": "v1", "kind": "Config", "current-context": "test",
		"clusters": []object{{"name": "test", "cluster": object{"server": server, "certificate-authority-data": contents[0]}}},
		"users":    []object{{"name": name, "user": object{"client-certificate-data": contents[1], "client-key-data": contents[2]}}},
		"contexts": []object{{"name": "test", "context": object{"cluster": "test", "user": name, "namespace": "default"}}},
	})
}

func writeJSON(file string, value any) error {
	text, err := json.MarshalIndent(value, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o600)
}
