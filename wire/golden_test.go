package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var addGolden = flag.Bool("golden.add", false, "write the packets that testdata lacks; it changes none")

const goldenFolder = "testdata/packets"

func TestGoldenPacketsAreReadAndWrittenAsEver(t *testing.T) {
	known := make(map[string]bool)
	for _, s := range samples() {
		for _, c := range bothCodecs {
			want := s.packet(c)
			file := goldenFile(s.name, c)
			known[file] = true
			data := golden(t, file, want)
			if got := want.Encode(); !bytes.Equal(got, data) {
				t.Errorf("%s: wrote\n%q\nthe file has\n%q", file, got, data)
			}
			got, err := Decode(data)
			if err != nil {
				t.Errorf("%s: %v", file, err)
				continue
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (- sample, + file):\n%s", file, diff)
			}
		}
	}
	files, err := filepath.Glob(goldenFolder + "/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !known[filepath.ToSlash(file)] {
			t.Errorf("%s: no sample says what it means", file)
		}
	}
}

func goldenFile(name string, c Codec) string {
	if c == JSON {
		return goldenFolder + "/" + name + ".json"
	}
	return goldenFolder + "/" + name + ".hex"
}

// golden returns the packet in a file. With -golden.add it writes the file first
// if there is none.
func golden(t *testing.T, file string, p Packet) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) && *addGolden {
		data = p.Encode()
		if p.Codec == Proto {
			data = hexLines(data)
		}
		err = os.WriteFile(file, data, 0o644)
	}
	if err != nil {
		t.Fatalf("%v (-golden.add adds what is new)", err)
	}
	if p.Codec == JSON {
		return data
	}
	packet, err := hex.DecodeString(strings.Join(strings.Fields(string(data)), ""))
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return packet
}

// hexLines writes 32 bytes a line.
func hexLines(data []byte) []byte {
	var b bytes.Buffer
	for len(data) > 0 {
		n := min(32, len(data))
		b.WriteString(hex.EncodeToString(data[:n]) + "\n")
		data = data[n:]
	}
	return b.Bytes()
}
