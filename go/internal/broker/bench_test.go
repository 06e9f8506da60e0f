package broker

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"
)

// samplesFile names where BenchmarkLatency writes every sample, ms, for `make bench`.
const samplesFile = "PYRO_BENCH_SAMPLES"

// BenchmarkLatency asks a host in turns directly and through the broker, over connections that are there, with a token in the
// request and in the answer of 16 KiB.
func BenchmarkLatency(b *testing.B) {
	page := make([]byte, 16<<10)
	for i := range page {
		page[i] = byte('a' + i%26)
	}
	g := newGround(b, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get("Authorization"))
		_, _ = w.Write(page)
	})
	direct := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		Dial:            func(network, _ string) (net.Conn, error) { return net.Dial(network, g.host.Listener.Addr().String()) },
	}}
	defer direct.CloseIdleConnections()
	brokered := g.client()
	ask := func(client *http.Client) float64 {
		request := newRequest(b, http.MethodGet, "/", nil)
		request.Header.Set("Authorization", "Bearer "+placeholder)
		begin := time.Now()
		res, err := client.Do(request)
		must(b, err)
		_, err = io.Copy(io.Discard, res.Body)
		must(b, err)
		res.Body.Close()
		return float64(time.Since(begin).Microseconds()) / 1000
	}
	ask(direct)
	ask(brokered)
	samples := map[string][]float64{}
	for b.Loop() {
		samples["direct"] = append(samples["direct"], ask(direct))
		samples["brokered"] = append(samples["brokered"], ask(brokered))
	}
	for name, list := range samples {
		sorted := slices.Sorted(slices.Values(list))
		b.ReportMetric(sorted[len(sorted)/2], name+"-ms")
	}
	if path := os.Getenv(samplesFile); path != "" {
		text, err := json.Marshal(samples)
		must(b, err)
		must(b, os.WriteFile(path, text, 0o600))
	}
}
