package pebble

import (
	"io/fs"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// diskBytesTold is what the metrics say that the store takes.
func diskBytesTold(t *testing.T, r *prometheus.Registry) float64 {
	t.Helper()
	all, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		if m.GetName() == "timberline_store_disk_bytes" {
			return m.Metric[0].GetGauge().GetValue()
		}
	}
	t.Fatal("there is no timberline_store_disk_bytes")
	return 0
}

// What the store takes is what the blocks of its files come to, as du counts them.
func TestDiskBytesAreWhatTheDiskHas(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	r := prometheus.NewRegistry()
	s, err := Open(dir, Options{Metrics: r})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var told, want float64
	for range 100 { // the engine may be at work
		told, want = diskBytesTold(t, r), 0
		err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if err == nil {
				want += float64(info.Sys().(*syscall.Stat_t).Blocks * 512)
			}
			return err
		})
		if err == nil && told == want {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("%.0f bytes are told, the disk has %.0f", told, want)
}
