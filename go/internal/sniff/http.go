// This file owns HTTP: the head of a request, the host it asks for, and how long its body is.
package sniff

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
)

const (
	maxHead    = 64 << 10
	maxChunkLn = 4096
)

// ErrNotHTTP: it is no HTTP/1 request, or one that two readers could understand differently.
var ErrNotHTTP = errors.New("not an unambiguous HTTP/1 request")

// Request is the head of one.
type Request struct {
	// Raw is the head as it came, the empty line included.
	Raw    []byte
	Method string
	// Host is what it asks for, without a port.
	Host string
	// length is that of its body, -1 for one in chunks.
	length int64
	// Opaque: what follows is no HTTP any more if the server agrees.
	Opaque bool
}

// IsHTTP tells whether bytes may be the beginning of an HTTP/1 request: letters, then a space, or so far only letters.
func IsHTTP(first []byte) bool {
	for i, c := range first {
		if c == ' ' {
			return i >= 3
		}
		if c < 'A' || c > 'Z' || i >= 16 {
			return false
		}
	}
	return len(first) > 0
}

// ReadRequest reads the head of a request. Errors: ErrNotHTTP, those of in.
func ReadRequest(in *bufio.Reader) (*Request, error) {
	request := &Request{}
	first, err := request.line(in)
	if err != nil {
		return nil, err
	}
	parts := strings.Split(first, " ")
	if len(parts) != 3 || !isToken(parts[0]) || (parts[2] != "HTTP/1.1" && parts[2] != "HTTP/1.0") {
		return nil, fmt.Errorf("%w: request line", ErrNotHTTP)
	}
	request.Method = parts[0]
	host, hosts, lengths, chunked, upgrade := "", 0, 0, 0, false
	for {
		line, err := request.line(in)
		if err != nil {
			return nil, err
		}
		if line == "" {
			break
		}
		name, value, found := strings.Cut(line, ":")
		if !found || !isToken(name) {
			return nil, fmt.Errorf("%w: header line", ErrNotHTTP)
		}
		value = strings.Trim(value, " \t")
		switch strings.ToLower(name) {
		case "host":
			host = value
			hosts++
		case "content-length":
			lengths++
			if request.length, err = parseLength(value, 10); err != nil {
				return nil, err
			}
		case "transfer-encoding":
			chunked++
			if !strings.EqualFold(value, "chunked") {
				return nil, fmt.Errorf("%w: transfer encoding", ErrNotHTTP)
			}
			request.length = -1
		case "upgrade":
			upgrade = true
		}
	}
	if hosts != 1 || lengths+chunked > 1 {
		return nil, fmt.Errorf("%w: %d hosts, %d lengths", ErrNotHTTP, hosts, lengths+chunked)
	}
	request.Opaque = upgrade || request.Method == "CONNECT"
	if request.Host, err = hostOf(request.Method, parts[1], host); err != nil {
		return nil, err
	}
	return request, nil
}

// line reads one, which ends with CR and LF and nothing else.
func (r *Request) line(in *bufio.Reader) (string, error) {
	start := len(r.Raw)
	for {
		piece, err := in.ReadSlice('\n')
		r.Raw = append(r.Raw, piece...)
		if len(r.Raw) > maxHead {
			return "", fmt.Errorf("%w: its head is longer than %d bytes", ErrNotHTTP, maxHead)
		}
		if err == nil {
			break
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return "", err
		}
	}
	line := r.Raw[start:]
	if len(line) < 2 || line[len(line)-2] != '\r' || bytes.ContainsAny(line[:len(line)-2], "\r\x00") {
		return "", fmt.Errorf("%w: line end", ErrNotHTTP)
	}
	return string(line[:len(line)-2]), nil
}

// hostOf is the host of a request, which the target may name too: both must be one.
func hostOf(method, target, header string) (string, error) {
	host, err := withoutPort(header)
	if err != nil {
		return "", err
	}
	named := ""
	switch {
	case method == "CONNECT":
		named = target
	case strings.HasPrefix(target, "/") || target == "*":
		return host, nil
	default:
		parsed, err := url.Parse(target)
		if err != nil || parsed.Host == "" || parsed.User != nil {
			return "", fmt.Errorf("%w: target", ErrNotHTTP)
		}
		named = parsed.Host
	}
	again, err := withoutPort(named)
	if err != nil {
		return "", err
	}
	if !strings.EqualFold(again, host) {
		return "", fmt.Errorf("%w: it names two hosts", ErrNotHTTP)
	}
	return host, nil
}

func withoutPort(text string) (string, error) {
	host := text
	if strings.LastIndexByte(text, ':') > strings.LastIndexByte(text, ']') {
		var err error
		if host, _, err = net.SplitHostPort(text); err != nil {
			return "", fmt.Errorf("%w: host", ErrNotHTTP)
		}
	}
	if host = strings.Trim(host, "[]"); host == "" || strings.ContainsAny(host, " \t@/\\?#,") {
		return "", fmt.Errorf("%w: host", ErrNotHTTP)
	}
	return host, nil
}

// Body sends what follows the head: its body as it comes.
func (r *Request) Body(out io.Writer, in *bufio.Reader) error {
	if r.length >= 0 {
		_, err := io.CopyN(out, in, r.length)
		return err
	}
	for {
		line := Request{}
		text, err := line.line(in)
		if err != nil {
			return err
		}
		if len(text) > maxChunkLn {
			return fmt.Errorf("%w: chunk", ErrNotHTTP)
		}
		size, _, _ := strings.Cut(text, ";")
		length, err := parseLength(strings.TrimRight(size, " \t"), 16)
		if err != nil {
			return err
		}
		if _, err := out.Write(line.Raw); err != nil {
			return err
		}
		if length == 0 {
			return trailers(out, in)
		}
		if _, err := io.CopyN(out, in, length); err != nil {
			return err
		}
		end := Request{}
		if text, err := end.line(in); err != nil || text != "" {
			return errors.Join(fmt.Errorf("%w: chunk end", ErrNotHTTP), err)
		}
		if _, err := out.Write(end.Raw); err != nil {
			return err
		}
	}
}

func trailers(out io.Writer, in *bufio.Reader) error {
	all := Request{}
	for {
		text, err := all.line(in)
		if err != nil {
			return err
		}
		if text == "" {
			_, err := out.Write(all.Raw)
			return err
		}
	}
}

func parseLength(text string, base int) (int64, error) {
	for _, c := range []byte(text) {
		if c == '+' || c == '-' || c == '_' {
			return 0, fmt.Errorf("%w: length", ErrNotHTTP)
		}
	}
	length, err := strconv.ParseInt(text, base, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: length", ErrNotHTTP)
	}
	return length, nil
}

func isToken(text string) bool {
	if text == "" {
		return false
	}
	for _, c := range []byte(text) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return true
}

// Refusal is the answer to a request that is denied, with why in words that a person or a model reads.
func Refusal(why string) []byte {
	body := "pyro: the network policy of this workspace denies this request: " + why + ".\n"
	return fmt.Appendf(nil, "HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n"+
		"X-Pyro-Network: denied\r\nConnection: close\r\n\r\n%s", len(body), body)
}
