// This file owns the host's name servers, which change with its networks: netd, which sees no file of the host's, is told.

package vmm

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"regexp"
	"slices"
	"time"
)

const (
	resolversEvery  = 5 * time.Second
	maxResolvers    = 8
	maxResolverFile = 64 << 10
)

var nameServer = regexp.MustCompile(`(?m)^[ \t]*nameserver[ \t]+([0-9A-Fa-f:.]+)[ \t]*\r?$`)

// readResolvers gives the name servers of a resolv.conf. Nil for one that names nobody, as in the middle of a change.
func readResolvers(path string) []string {
	file, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxResolverFile))
	if err != nil {
		return nil
	}
	var servers []string
	for _, match := range nameServer.FindAllSubmatch(text, maxResolvers) {
		servers = append(servers, string(match[1]))
	}
	return servers
}

// followResolvers tells netd of the name servers whenever they have changed, until ctx ends.
func (n *network) followResolvers(ctx context.Context, every time.Duration) {
	if n.spec.ResolverFile == "" {
		return
	}
	// Those that the first config has.
	known := readResolvers(n.spec.ResolverFile)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		servers := readResolvers(n.spec.ResolverFile)
		if servers == nil || slices.Equal(servers, known) {
			continue
		}
		n.mutex.Lock()
		n.resolvers = servers
		up := n.up
		n.mutex.Unlock()
		// One that is just coming up may have been told of earlier ones: it is asked again the next time.
		if up == nil {
			continue
		}
		if _, err := up.ask(resolversMessage(servers)); err != nil {
			// It ends by this, if it has not yet.
			up.conn.Close()
			continue
		}
		known = servers
	}
}

func resolversMessage(servers []string) string {
	list, _ := json.Marshal(servers)
	return `{"resolvers":` + string(list) + "}"
}
