// This file owns the authority of a workspace: a certificate that its guest trusts, and with it one for each host that is
// looked into. It can sign for the hosts it was made for and for no others.
package broker

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"sync"
	"time"
)

const (
	authorityLife = 20 * 365 * 24 * time.Hour
	// leafLife is that of a host's certificate, renewBefore when another is made. Neither is ever stored.
	leafLife    = 7 * 24 * time.Hour
	renewBefore = 24 * time.Hour
	// clockSkew is how far a guest's clock may be behind.
	clockSkew = 24 * time.Hour
	certBlock = "CERTIFICATE"
	keyBlock  = "PRIVATE KEY"
)

// Authority is a certificate and its key, both PEM.
type Authority struct {
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
}

// NewAuthority makes one for these hosts.
func NewAuthority(hosts []string) (Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Authority{}, err
	}
	serial, err := newSerial()
	if err != nil {
		return Authority{}, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: fmt.Sprintf("pyro workspace authority %x", serial.Bytes()[:4])},
		NotBefore: now.Add(-clockSkew), NotAfter: now.Add(authorityLife),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		PermittedDNSDomainsCritical: true, PermittedDNSDomains: hosts,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return Authority{}, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Authority{}, err
	}
	return Authority{
		Certificate: string(pem.EncodeToMemory(&pem.Block{Type: certBlock, Bytes: der})),
		Key:         string(pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: secret})),
	}, nil
}

// authority is one in use. Its methods may be called at the same time.
type authority struct {
	from        Authority
	certificate *x509.Certificate
	signer      crypto.Signer
	// key is that of all hosts' certificates.
	key *ecdsa.PrivateKey

	mutex  sync.Mutex
	leaves map[string]*tls.Certificate
}

func parseAuthority(from Authority) (*authority, error) {
	pair, err := tls.X509KeyPair([]byte(from.Certificate), []byte(from.Key))
	if err != nil {
		return nil, errors.New("authority: no certificate with its key")
	}
	signer, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, errors.New("authority: a key that signs nothing")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return &authority{from: from, certificate: pair.Leaf, signer: signer, key: key, leaves: map[string]*tls.Certificate{}}, nil
}

// leaf is the certificate for a host, which is one of the few that are looked into.
func (a *authority) leaf(host string) (*tls.Certificate, error) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	now := time.Now()
	if known := a.leaves[host]; known != nil && now.Add(renewBefore).Before(known.Leaf.NotAfter) {
		return known, nil
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "pyro broker"}, DNSNames: []string{host},
		NotBefore: now.Add(-clockSkew), NotAfter: now.Add(leafLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, a.key.Public(), a.signer)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	made := &tls.Certificate{Certificate: [][]byte{der, a.certificate.Raw}, PrivateKey: a.key, Leaf: leaf}
	a.leaves[host] = made
	return made, nil
}

func newSerial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
}
