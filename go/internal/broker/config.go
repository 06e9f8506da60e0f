// This file owns what a broker is told: secrets, the hosts that may have them, and the authority of its workspace.
package broker

import (
	"crypto/x509"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"pyro.dev/pyro/go/internal/netpolicy"
	"pyro.dev/pyro/go/internal/redact"
)

const (
	mostSecrets = 64
	mostHosts   = 64
	// plainPrefix before a host in a list: it may have the secret over HTTP without TLS.
	plainPrefix = "http://"
	// mostFormer is how many values that a secret had before are still kept out of answers.
	mostFormer = 4
)

var placeholderPattern = regexp.MustCompile(`^pyro-secret-[0-9a-f]{32}$`)

// Config is all that is brokered. The zero value is nothing.
type Config struct {
	// Authority signs what the guest is shown; needed where there are secrets.
	Authority Authority `json:"authority"`
	// Roots are authorities that the hosts' certificates may have beside those of this system, PEM.
	Roots   string   `json:"roots,omitempty"`
	Secrets []Secret `json:"secrets"`
}

// Secret is one that the guest knows by a placeholder.
type Secret struct {
	Name        string `json:"name"`
	Placeholder string `json:"placeholder"`
	// Value is base64 on the way.
	Value []byte `json:"value"`
	// Hosts are names, each for HTTPS alone or, with http:// before it, for HTTP too.
	Hosts []string `json:"hosts"`
}

// state is a Config that was checked. It never changes.
type state struct {
	authority *authority
	roots     *x509.CertPool
	secrets   []secret
	// https and http are the names that are looked into.
	https, http map[string]bool
	redactor    *redact.Redactor
}

type secret struct {
	name        string
	placeholder string
	value       string
	former      [][]byte
	https, http map[string]bool
}

// compile checks a config. before is what there was: values that a secret had before are kept out of answers still.
func (c Config) compile(before *state) (*state, error) {
	s := &state{https: map[string]bool{}, http: map[string]bool{}}
	if len(c.Secrets) == 0 {
		return s, nil
	}
	if len(c.Secrets) > mostSecrets {
		return nil, fmt.Errorf("%d brokered secrets, at most %d", len(c.Secrets), mostSecrets)
	}
	var err error
	if s.authority, err = before.authorityOf(c.Authority); err != nil {
		return nil, err
	}
	if c.Roots != "" {
		// A host without any, or whose list cannot be read, has those that were given and no others.
		if s.roots, err = x509.SystemCertPool(); err != nil {
			s.roots = x509.NewCertPool()
		}
		if !s.roots.AppendCertsFromPEM([]byte(c.Roots)) {
			return nil, errors.New("roots: no certificate in them")
		}
	}
	var values []redact.Value
	for _, one := range c.Secrets {
		made, err := one.compile()
		if err != nil {
			return nil, err
		}
		made.former = before.formerOf(made)
		for host := range made.https {
			s.https[host] = true
		}
		for host := range made.http {
			s.http[host] = true
		}
		for _, value := range append([][]byte{[]byte(made.value)}, made.former...) {
			values = append(values, redact.Value{Value: value, Mark: []byte(made.placeholder)})
		}
		s.secrets = append(s.secrets, made)
	}
	s.redactor = redact.New(values)
	return s, nil
}

func (one Secret) compile() (secret, error) {
	made := secret{
		name: one.Name, placeholder: one.Placeholder, value: string(redact.Bare(one.Value)),
		https: map[string]bool{}, http: map[string]bool{},
	}
	if !placeholderPattern.MatchString(one.Placeholder) || made.value == "" {
		return made, fmt.Errorf("secret %s: no placeholder or no value", one.Name)
	}
	if len(one.Hosts) == 0 || len(one.Hosts) > mostHosts {
		return made, fmt.Errorf("secret %s: %d hosts", one.Name, len(one.Hosts))
	}
	for _, text := range one.Hosts {
		text, plain := strings.CutPrefix(text, plainPrefix)
		name, ok := netpolicy.Name(text)
		if !ok {
			return made, fmt.Errorf("secret %s: %q is no host name", one.Name, text)
		}
		made.https[name] = true
		if plain {
			made.http[name] = true
		}
	}
	return made, nil
}

// authorityOf is the authority of a config, the same where it has not changed: its certificates are made already.
func (s *state) authorityOf(wanted Authority) (*authority, error) {
	if s != nil && s.authority != nil && s.authority.from == wanted {
		return s.authority, nil
	}
	return parseAuthority(wanted)
}

func (s *state) formerOf(now secret) [][]byte {
	if s == nil {
		return nil
	}
	for _, one := range s.secrets {
		if one.placeholder != now.placeholder {
			continue
		}
		if one.value == now.value {
			return one.former
		}
		former := append([][]byte{[]byte(one.value)}, one.former...)
		return former[:min(len(former), mostFormer)]
	}
	return nil
}

// allowed are the secrets that a host may have.
func (s *state) allowed(host string, secure bool) []secret {
	var list []secret
	for _, one := range s.secrets {
		if secure && one.https[host] || !secure && one.http[host] {
			list = append(list, one)
		}
	}
	return list
}
